package script

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"creel/internal/bundle"
)

const (
	maxName  = 253 // RFC 1123, of a whole name
	maxLabel = 63
)

// What Kubernetes accepts, and nothing that a shell, YAML or OpenSSL would read
// as anything but a name.
var (
	objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	label      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	labelValue = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	hostName   = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$`)
)

func (f fields) check(known []bundle.Member) error {
	for _, c := range []struct {
		what, value string
		pattern     *regexp.Regexp
		limit       int
	}{
		{"namespace", f.Namespace, label, maxLabel},
		{"StatefulSet", f.StatefulSet, objectName, maxName},
		{"gateway", f.Gateway, labelValue, maxLabel},
	} {
		if len(c.value) > c.limit || !c.pattern.MatchString(c.value) {
			return fmt.Errorf("%s %.80q cannot be the name of one", c.what, c.value)
		}
	}
	seen := map[string]string{}
	for _, m := range known {
		// Its backup needs a name, too.
		if len(m.Stored)+len(bundle.BackupInfix)+len(fmt.Sprint(maxBackups)) > maxName || !objectName.MatchString(m.Stored) {
			return fmt.Errorf("secret %.80q cannot be the name of one", m.Stored)
		}
		if other, twice := seen[m.Stored]; twice {
			return fmt.Errorf("%s and %s have the same name %q", other, m.Name, m.Stored)
		}
		seen[m.Stored] = m.Name
	}
	if strings.ContainsFunc(f.Context, unicode.IsControl) {
		return errors.New("the context's name has control characters")
	}
	return nil
}

// quote makes one word of a shell of any text.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// subject is a certificate's subject as an argument of openssl's -subj.
func subject(p bundle.Profile) string {
	var s string
	add := func(key string, values ...string) {
		for _, v := range values {
			s += "/" + key + "=" + strings.NewReplacer(`\`, `\\`, "/", `\/`, "+", `\+`).Replace(v)
		}
	}
	var n pkix.Name = p.Subject
	add("O", n.Organization...)
	add("OU", n.OrganizationalUnit...)
	add("CN", n.CommonName)
	return quote(s)
}

func days(p bundle.Profile) int { return int(p.Life / (24 * time.Hour)) }

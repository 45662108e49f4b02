package kubeapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/credential"
)

// Fault says what a call that went wrong means. Absence and conflicts are no
// faults by themselves: they stay the API's errors, for IsAbsent and the like,
// inside of one that names the operation.
func Fault(ctx context.Context, operation string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		var expired *budget.Expired
		if errors.As(cause, &expired) {
			return advisory.New("cluster-timeout", "", cause)
		}
		return fmt.Errorf("%s: %w", operation, cause)
	}
	var request *url.Error
	if errors.As(err, &request) {
		// Of the request only the address is news, and its path has the looks of a
		// secret's name.
		address := request.URL
		if u, parsed := url.Parse(address); parsed == nil {
			address = u.Scheme + "://" + u.Host
		}
		err = fmt.Errorf("%s: %w", address, request.Err)
	}
	err = Scrub(err)
	id := transportFault(err)
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		id = statusFault(err, status.Status())
	}
	if id == "" {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return advisory.New(id, operation, err)
}

// statusFault is the advisory of an error that the API answered.
func statusFault(err error, s metav1.Status) string {
	switch {
	case apierrors.IsUnexpectedServerError(err):
		// No object of the API: it is somebody in front of it who speaks, and what
		// that says about an object is not believed.
		if s.Code >= http.StatusInternalServerError || s.Code == http.StatusTooManyRequests {
			return "cluster-unhealthy"
		}
		return "cluster-not-kubernetes"
	case apierrors.IsUnauthorized(err):
		return "cluster-unauthorized"
	case IsGoing(err):
		return ""
	case apierrors.IsForbidden(err):
		return forbidden(s.Message)
	case apierrors.IsNotFound(err) && (s.Details == nil || s.Details.Name == ""):
		return "cluster-not-kubernetes" // it does not serve that kind of object
	case apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return ""
	case s.Code >= http.StatusInternalServerError, apierrors.IsTooManyRequests(err):
		return "cluster-unhealthy"
	}
	return "cluster-refused"
}

var (
	// notAllowed is how every authorizer of the API begins to speak.
	notAllowed = regexp.MustCompile(`cannot [a-z]+ (resource|path) "`)
	quota      = regexp.MustCompile(`exceeded quota:|status unknown for quota:`)
)

// forbidden tells a right that is missing from a refusal by admission, which
// have the same status and only differ in words.
func forbidden(message string) string {
	switch {
	case quota.MatchString(message):
		return "cluster-quota"
	case notAllowed.MatchString(message):
		return "cluster-forbidden"
	}
	return "cluster-refused"
}

// transportFault is the advisory of an error on the way to the API.
func transportFault(err error) string {
	var (
		unknownCA x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
	)
	text := err.Error()
	switch {
	case strings.Contains(text, "getting credentials: "): // client-go's, without a type
		return "cluster-plugin-failed"
	case errors.As(err, &unknownCA), errors.As(err, &hostname), errors.As(err, &invalid), errors.As(err, &verify):
		return "cluster-tls"
	case strings.Contains(text, "remote error: tls: "): // crypto/tls exports no type for it
		// The other side does not accept something: mostly the client's certificate.
		if strings.Contains(text, "certificate") || strings.Contains(text, "access denied") {
			return "cluster-unauthorized"
		}
		return "cluster-tls"
	case errors.As(err, &record), strings.Contains(text, http.ErrSchemeMismatch.Error()), strings.Contains(text, "malformed HTTP"), errors.Is(err, errTooLarge):
		return "cluster-not-kubernetes"
	}
	return "cluster-unreachable"
}

// IsAbsent reports that the API itself said that one object does not exist. A
// bare status 404, as a proxy or another program answers, says nothing.
func IsAbsent(err error, resource, name string) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || apierrors.IsUnexpectedServerError(err) || !errors.As(err, &status) {
		return false
	}
	d := status.Status().Details
	return d != nil && d.Kind == resource && d.Name == name
}

// IsGoing reports that a write was refused because the namespace is being
// deleted.
func IsGoing(err error) bool {
	return apierrors.HasStatusCause(err, "NamespaceTerminating") // core/v1 NamespaceTerminatingCause
}

// Scrub takes out of an error what may be a secret. The API's own errors quote
// no values, but an admission webhook or a proxy can say whatever it was sent.
// keep lists what is harmless, such as names of files.
func Scrub(err error, keep ...string) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		if text := redact(err.Error(), keep...); text != err.Error() {
			return errors.New(text)
		}
		return err
	}
	s := *status.ErrStatus.DeepCopy()
	if apierrors.IsUnexpectedServerError(status) {
		s.Message = fmt.Sprintf("status %d without an explanation by the Kubernetes API", s.Code)
	}
	s.Message = redact(s.Message)
	if s.Details != nil {
		for i, c := range s.Details.Causes {
			s.Details.Causes[i].Message = redact(c.Message)
			if c.Type == metav1.CauseTypeUnexpectedServerResponse {
				s.Details.Causes[i].Message = ""
			}
		}
	}
	return &apierrors.StatusError{ErrStatus: s}
}

// maxMessage keeps somebody else's words readable.
const maxMessage = 1000

// alias is how a parser of YAML quotes a password that begins with a star.
var alias = regexp.MustCompile(`unknown anchor '.*?'`)

// redact takes key material, and what is too long to read, out of text.
func redact(text string, keep ...string) string {
	mark := func(i int) string { return fmt.Sprintf("\x00%d\x00", i) }
	for i, k := range keep {
		text = strings.ReplaceAll(text, k, mark(i))
	}
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	text = credential.RedactKeys(alias.ReplaceAllString(text, "unknown anchor"))
	for i, k := range keep {
		text = strings.ReplaceAll(text, mark(i), k)
	}
	return text
}

// IsForbidden reports that a right is missing, which is not any other status 403.
func IsForbidden(err error) bool {
	p, ok := advisory.Of(err)
	return ok && p.ID == "cluster-forbidden"
}

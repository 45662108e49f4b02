package credential

import (
	"strings"
	"testing"
)

func TestRedactKeys(t *testing.T) {
	for _, keep := range []string{
		`secrets "openshell-server-tls-creel-backup-12" is forbidden: User "system:serviceaccount:test-abcde:creel" cannot update resource "secrets" in API group "" in the namespace "openshell"`,
		`Get "https://127.0.0.1:6443/api/v1/namespaces/openshell/secrets/openshell-server-client-ca": dial tcp 127.0.0.1:6443: connect: connection refused`,
		`statefulsets.apps "openshell" is forbidden: ValidatingAdmissionPolicy 'no-restarts-on-fridays' denied request`,
		`exceeded quota: few, requested: count/secrets=1, used: count/secrets=4, limited: count/secrets=4`,
		`open /home/somebody/projects/kubernetes/configuration/kubeconfig: no such file or directory`,
	} {
		if got := RedactKeys(keep); got != keep {
			t.Errorf("%q became %q", keep, got)
		}
	}
	for _, secret := range []string{
		"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
		"5f2d8a90c1b34e76a8d0e9f1b2c3d4e55f2d8a90c1b34e76a8d0e9f1b2c3d4e5",
		"eyJhbGciOiJFZERTQSIsImtpZCI6IjAxMjM0NTY3ODlhYmNkZWYifQ",
		"-----BEGIN PRIVATE KEY-----\nshort\n-----END PRIVATE KEY-----",
		"-----BEGIN PRIVATE KEY-----\nand no end",
	} {
		if got := RedactKeys("it says " + secret + " again"); strings.Contains(got, secret) || strings.Contains(got, "short") || strings.Contains(got, "no end") {
			t.Errorf("%q became %q", secret, got)
		}
	}
}

package client

import "testing"

func TestPlain(t *testing.T) {
	for message, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:17671: connect: connection refused"`: "dial tcp 127.0.0.1:17671: connect: connection refused",
		`connection error: desc = "transport: authentication handshake failed: tls: \"x\" is wrong"`:                       `tls: "x" is wrong`,
		"sandbox claw is stopped": "sandbox claw is stopped",
		`"`:                       `"`,
		"":                        "",
	} {
		if got := plain(message); got != want {
			t.Errorf("plain(%s) = %s, want %s", message, got, want)
		}
	}
}

package dashboard

import (
	"testing"
)

func TestAuthenticatedURL(t *testing.T) {
	tests := []struct{ base, token, want string }{
		{"http://127.0.0.1:18789", "abc", "http://127.0.0.1:18789/#token=abc"},
		{"http://127.0.0.1:18789/", "abc", "http://127.0.0.1:18789/#token=abc"},
		{"https://agent.example/base", "abc", "https://agent.example/base#token=abc"},
		{"https://agent.example/?a=b", "abc", "https://agent.example/?a=b#token=abc"},
		{"http://127.0.0.1:18789/#token=old", "new", "http://127.0.0.1:18789/#token=new"},
		{"http://127.0.0.1:18789", "a b+c/d=&#é", "http://127.0.0.1:18789/#token=a%20b%2Bc%2Fd%3D%26%23%C3%A9"},
		{"http://127.0.0.1:18789/#x", "", "http://127.0.0.1:18789/"},
	}
	for _, tt := range tests {
		if got := AuthenticatedURL(tt.base, tt.token); got != tt.want {
			t.Errorf("AuthenticatedURL(%q, %q) = %q, want %q", tt.base, tt.token, got, tt.want)
		}
	}
}

func TestDisplayURL(t *testing.T) {
	tests := []struct{ in, want string }{
		{"http://127.0.0.1:18789/#token=abc", "http://127.0.0.1:18789/"},
		{"http://127.0.0.1:18789/#TOKEN=abc", "http://127.0.0.1:18789/"},
		{"http://127.0.0.1:18789/#Token=a#token=b", "http://127.0.0.1:18789/"},
		{"http://127.0.0.1:18789/#section", "http://127.0.0.1:18789/#section"},
		{"http://127.0.0.1:18789/#section&tOkEn=abc", "http://127.0.0.1:18789/#section"},
		{"http://127.0.0.1:18789/#a#token=abc", "http://127.0.0.1:18789/#a#token=abc"}, // no page reads this as a token
		{"http://127.0.0.1:18789/#token=abc\ndef", "http://127.0.0.1:18789/"},
		{"https://me:hunter2@agent.example/x", "https://REDACTED@agent.example/x"},
		{"https://me@agent.example/x", "https://REDACTED@agent.example/x"},
		{"https://me:p@ss@agent.example/x", "https://REDACTED@agent.example/x"},
		{"me:hunter2@agent.example", "REDACTED@agent.example"},
		{"//me:hunter2@agent.example", "//REDACTED@agent.example"},
		{"https://agent.example/a@b", "https://agent.example/a@b"},
		{"https://agent.example/?token=abc&x=1", "https://agent.example/?token=REDACTED&x=1"},
		{"https://agent.example/?x=1&access_token=abc", "https://agent.example/?x=1&access_token=REDACTED"},
		{"  https://me:hunter2@agent.example ", "https://REDACTED@agent.example"},
		{"ht!tp://me:hunter2@agent.example", "ht!tp://REDACTED@agent.example"},
		{"http://agent.example\\@b", "http://agent.example\\@b"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := DisplayURL(tt.in); got != tt.want {
			t.Errorf("DisplayURL(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

package dashboard

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEntries(t *testing.T) {
	tests := []struct {
		name string
		in   Input
		want []Entry
	}{
		{"local", Input{}, []Entry{{"Dashboard", "http://127.0.0.1:18789/#token=T"}}},
		{"remote", Input{URL: "https://agent.example/x"}, []Entry{
			{"Dashboard", "https://agent.example/x#token=T"}, {"Alt 1", "http://127.0.0.1:18789/#token=T"},
		}},
		{"WSL", Input{WSL: true, WSLHost: "172.20.1.2"}, []Entry{
			{"Dashboard", "http://172.20.1.2:18789/#token=T"}, {"Alt 1", "http://127.0.0.1:18789/#token=T"},
		}},
		{"WSL with a remote URL", Input{WSL: true, WSLHost: "172.20.1.2", URL: "https://agent.example"}, []Entry{
			{"Dashboard", "https://agent.example/#token=T"}, {"Alt 1", "http://127.0.0.1:18789/#token=T"},
			{"WSL fallback", "http://172.20.1.2:18789/#token=T"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Build(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, Entries(c, tt.in, "T")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := Entries(Chain{}, Input{}, "T"); got != nil {
		t.Errorf("Entries of nothing = %v", got)
	}
}

func TestGuidance(t *testing.T) {
	some := []Entry{{"Dashboard", "http://127.0.0.1:18789/"}}
	const forward = "Port 18789 must be forwarded before opening these URLs."
	const wsl = "WSL detected: if localhost fails in Windows, use the WSL host IP shown by `hostname -I`."
	tests := []struct {
		name           string
		entries        []Entry
		forwarded, wsl bool
		want           []string
	}{
		{"none", nil, false, true, []string{"No dashboard URLs were generated."}},
		{"none although it is forwarded", nil, true, false, []string{"No dashboard URLs were generated."}},
		{"not forwarded yet", some, false, false, []string{forward}},
		{"not forwarded yet, on WSL", some, false, true, []string{forward, wsl}},
		{"forwarded", some, true, false, nil},
		{"forwarded, on WSL", some, true, true, []string{wsl}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, Guidance(tt.entries, 18789, tt.forwarded, tt.wsl)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestWSL(t *testing.T) {
	tests := []struct {
		name, key, release string
		want               bool
	}{
		{"plain Linux", "", "6.8.0-41-generic", false},
		{"WSL_DISTRO_NAME", "WSL_DISTRO_NAME", "6.8.0", true},
		{"WSL_INTEROP", "WSL_INTEROP", "6.8.0", true},
		{"kernel release", "", "5.15.153.1-Microsoft-standard-WSL2", true},
	}
	for _, tt := range tests {
		getenv := func(k string) string {
			if k == tt.key {
				return "x"
			}
			return ""
		}
		if got := DetectWSL(getenv, tt.release); got != tt.want {
			t.Errorf("%s: DetectWSL = %v, want %v", tt.name, got, tt.want)
		}
	}

	hosts := []struct {
		given    string
		wsl      bool
		hostname string
		want     string
	}{
		{"10.1.2.3", false, "", "10.1.2.3"},
		{"10.1.2.3", true, "172.20.1.2", "10.1.2.3"},
		{"", true, "172.20.1.2 fd00::2 \n", "172.20.1.2"},
		{"", true, " \n", ""},
		{"", false, "172.20.1.2", ""},
	}
	for _, tt := range hosts {
		if got := WSLHost(tt.given, tt.wsl, tt.hostname); got != tt.want {
			t.Errorf("WSLHost(%q, %v, %q) = %q, want %q", tt.given, tt.wsl, tt.hostname, got, tt.want)
		}
	}
}

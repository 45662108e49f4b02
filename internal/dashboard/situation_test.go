package dashboard

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDetectSSH(t *testing.T) {
	for _, tt := range []struct {
		connection, tty string
		want            SSH
	}{
		{"", "", SSH{}},
		{"", "/dev/pts/1", SSH{Session: true}},
		{"203.0.113.9 50000 192.0.2.7 22", "/dev/pts/1", SSH{true, "192.0.2.7", 22}},
		{"203.0.113.9 50000 192.0.2.7 2222", "", SSH{true, "192.0.2.7", 2222}},
		{"2001:db8::9 50000 2001:db8::7 22", "", SSH{true, "2001:db8::7", 22}},
		{"fe80::9%eth0 50000 fe80::7%eth0 22", "", SSH{true, "", 22}},
		{"::ffff:203.0.113.9 5 ::ffff:192.0.2.7 22", "", SSH{true, "192.0.2.7", 22}},
		{"UNKNOWN 65535 UNKNOWN 65535", "", SSH{Session: true}},
		{"nonsense", "", SSH{Session: true}},
		{"203.0.113.9 50000 192.0.2.7 x", "", SSH{true, "192.0.2.7", 0}},
	} {
		got := DetectSSH(func(k string) string {
			return map[string]string{"SSH_CONNECTION": tt.connection, "SSH_TTY": tt.tty}[k]
		})
		if got != tt.want {
			t.Errorf("DetectSSH(%q, %q) = %+v, want %+v", tt.connection, tt.tty, got, tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	const loop = "http://127.0.0.1:18789/"
	ssh := Machine{SSH: SSH{true, "192.0.2.7", 22}, User: "me", Hostname: "box", Addresses: []string{"192.0.2.7"}}
	narrow, wide := Listener{Bind: Loopback, Port: 18789}, Listener{Bind: Everybody, Port: 18789}
	here, elsewhere := "creel dashboard claw --open", "creel dashboard claw --show-token"
	tests := []struct {
		name string
		m    Machine
		a    Access
		l    Listener
		want Situation
	}{
		{"at the machine", Machine{User: "me", Addresses: []string{"192.0.2.7"}, Display: true, Opener: true}, Access{}, narrow, Situation{
			Kinds: []string{"local"}, URL: loop, Entries: []Entry{{"Dashboard", loop}}, Commands: []string{here},
		}},
		{"at a machine without a desktop", Machine{Opener: true}, Access{}, narrow, Situation{
			Kinds: []string{"local"}, URL: loop, Entries: []Entry{{"Dashboard", loop}}, Commands: []string{elsewhere},
		}},
		{"at a desktop without an opener", Machine{Display: true}, Access{}, narrow, Situation{
			Kinds: []string{"local"}, URL: loop, Entries: []Entry{{"Dashboard", loop}}, Commands: []string{elsewhere},
		}},
		{"over SSH with a display", Machine{SSH: SSH{true, "192.0.2.7", 22}, Display: true, Opener: true}, Access{}, narrow, Situation{
			Kinds: []string{"ssh"}, URL: loop, Tunnel: strings.Fields("ssh -L 18789:127.0.0.1:18789 192.0.2.7"), Entries: []Entry{{"Dashboard", loop}},
			Guidance: []string{"Port 18789 must be forwarded before opening these URLs."}, Commands: []string{here, elsewhere},
		}},
		{"over SSH", ssh, Access{}, narrow, Situation{
			Kinds: []string{"ssh"}, URL: loop, Tunnel: strings.Fields("ssh -L 18789:127.0.0.1:18789 me@192.0.2.7"),
			Entries: []Entry{{"Dashboard", loop}}, Guidance: []string{"Port 18789 must be forwarded before opening these URLs."},
			Commands: []string{elsewhere},
		}},
		{"over SSH at another port, of an unknown address", Machine{SSH: SSH{true, "", 2222}, User: "me", Hostname: "box"}, Access{}, narrow, Situation{
			Kinds: []string{"ssh"}, URL: loop, Tunnel: strings.Fields("ssh -L 18789:127.0.0.1:18789 -p 2222 me@box"),
			Entries: []Entry{{"Dashboard", loop}}, Guidance: []string{"Port 18789 must be forwarded before opening these URLs."},
			Commands: []string{elsewhere},
		}},
		{"over SSH, bound wide", ssh, Access{}, wide, Situation{
			Kinds: []string{"ssh", "wide"}, URL: loop, Tunnel: strings.Fields("ssh -L 18789:127.0.0.1:18789 me@192.0.2.7"),
			Entries:  []Entry{{"Dashboard", loop}, {"Alt 1", "http://192.0.2.7:18789/"}},
			Guidance: []string{"Port 18789 must be forwarded before opening these URLs."},
			Commands: []string{elsewhere},
		}},
		{"over SSH, with a public URL", ssh, Access{PublicURL: "https://agent.example/claw"}, narrow, Situation{
			Kinds: []string{"ssh", "proxy"}, URL: "https://agent.example/claw",
			Entries:  []Entry{{"Dashboard", "https://agent.example/claw"}, {"Alt 1", loop}},
			Commands: []string{elsewhere},
		}},
		{"WSL", Machine{WSL: true, Opener: true, Addresses: []string{"172.20.1.2", "fd00::2"}}, Access{}, wide, Situation{
			Kinds: []string{"wsl", "wide"}, URL: "http://172.20.1.2:18789/",
			Entries:  []Entry{{"Dashboard", "http://172.20.1.2:18789/"}, {"Alt 1", loop}},
			Guidance: []string{"WSL detected: if localhost fails in Windows, use the WSL host IP shown by `hostname -I`."},
			Commands: []string{here, elsewhere},
		}},
		{"WSL with a public URL", Machine{WSL: true, Addresses: []string{"172.20.1.2"}}, Access{PublicURL: "http://agent.example:18789"}, wide, Situation{
			Kinds: []string{"wsl", "wide", "proxy"}, URL: "http://agent.example:18789/",
			Entries:  []Entry{{"Dashboard", "http://agent.example:18789/"}, {"Alt 1", loop}, {"WSL fallback", "http://172.20.1.2:18789/"}},
			Guidance: []string{"WSL detected: if localhost fails in Windows, use the WSL host IP shown by `hostname -I`."},
			Commands: []string{elsewhere},
		}},
		{"bound wide", Machine{Addresses: []string{"192.0.2.7", "2001:db8::7"}}, Access{}, wide, Situation{
			Kinds: []string{"wide"}, URL: loop,
			Entries:  []Entry{{"Dashboard", loop}, {"Alt 1", "http://192.0.2.7:18789/"}},
			Commands: []string{elsewhere},
		}},
		{"behind a proxy on this machine", Machine{}, Access{PublicURL: "https://agent.example"}, narrow, Situation{
			Kinds: []string{"proxy"}, URL: "https://agent.example/", Entries: []Entry{{"Dashboard", "https://agent.example/"}, {"Alt 1", loop}},
			Commands: []string{elsewhere},
		}},
		{"behind a proxy, and open to all", Machine{}, Access{PublicURL: "https://agent.example"}, wide, Situation{
			Kinds: []string{"wide", "proxy"}, URL: "https://agent.example/", Entries: []Entry{{"Dashboard", "https://agent.example/"}, {"Alt 1", loop}},
			Guidance: []string{"The listener itself is open on every address of this machine; a proxy on this machine needs it on loopback only."},
			Commands: []string{elsewhere, "creel dashboard claw --bind 127.0.0.1"},
		}},
		{"a public URL that is the loopback one", Machine{}, Access{PublicURL: "http://127.0.0.1:18789"}, narrow, Situation{
			Kinds: []string{"local"}, URL: loop, Entries: []Entry{{"Dashboard", loop}},
			Commands: []string{elsewhere},
		}},
		{"in a container", Machine{Container: "docker"}, Access{}, narrow, Situation{
			Kinds: []string{"container"}, URL: loop, Entries: []Entry{{"Dashboard", loop}},
			Guidance: []string{"This is a container (docker): port 18789 of its loopback is reached from outside by what forwards into it, as an editor that is attached to it does. Or start the container with -p 127.0.0.1:18789:18789, which publishes the port to its machine alone, and give this command --bind 0.0.0.0."},
			Commands: []string{elsewhere},
		}},
		{"in a container, without a token", Machine{Container: "docker"}, Access{}, Listener{Bind: Loopback, Port: 18789, Open: true}, Situation{
			Kinds: []string{"container"}, URL: loop, Entries: []Entry{{"Dashboard", loop}},
			Guidance: []string{"This is a container (docker): port 18789 of its loopback is reached from outside by what forwards into it, as an editor that is attached to it does."},
		}},
		{"in a container, bound wide", Machine{Container: "podman"}, Access{}, wide, Situation{
			Kinds: []string{"container", "wide"}, URL: loop, Entries: []Entry{{"Dashboard", loop}},
			Guidance: []string{"This is a container (podman): publish port 18789 to open the dashboard on the machine that runs it, at http://localhost:18789/. For other machines declare the URL that they open."},
			Commands: []string{elsewhere, "creel dashboard claw --public-url URL"},
		}},
		{"in a container, with its URL declared", Machine{Container: "podman"}, Access{PublicURL: "http://box.example:18789"}, wide, Situation{
			Kinds: []string{"container", "wide", "proxy"}, URL: "http://box.example:18789/",
			Entries:  []Entry{{"Dashboard", "http://box.example:18789/"}, {"Alt 1", loop}},
			Commands: []string{elsewhere},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Judge(tt.m, tt.a, tt.l, "claw")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !got.Is(tt.want.Kinds[0]) || got.Is("nothing") {
				t.Errorf("Is does not fit %v", got.Kinds)
			}
		})
	}
	if _, err := Judge(Machine{}, Access{}, Listener{Bind: "10.0.0.1", Port: 1}, "claw"); err == nil {
		t.Error("a listener that cannot be was judged")
	}
}

// Every URL that is printed is one whose page may connect.
func TestOrigins(t *testing.T) {
	for _, m := range []Machine{{}, {Addresses: []string{"192.0.2.7", "2001:db8::7"}}, {WSL: true, Addresses: []string{"192.0.2.7"}}} {
		for _, bind := range []string{Loopback, Everybody} {
			for _, url := range []string{"", "https://agent.example/claw", "http://localhost:5000"} {
				a, l := Access{PublicURL: url}, Listener{Bind: bind, Port: 18789}
				origins, err := Origins(m, a, l)
				if err != nil {
					t.Fatal(err)
				}
				s, err := Judge(m, a, l, "claw")
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range append(s.Entries, Entry{URL: s.URL}) {
					if !slices.Contains(origins, Origin(e.URL)) {
						t.Errorf("%+v %+v: the page at %s may not connect: %q", m, l, e.URL, origins)
					}
				}
				if origins[0] != "http://127.0.0.1:18789" || url != "" && !slices.Contains(origins, Origin(url)) {
					t.Errorf("%+v %+v: %q", m, a, origins)
				}
			}
		}
	}
}

// Package state is the only place that knows the names of files on disk, and
// how to change them durably. docs/state.md lists the same names. It is a leaf.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names inside the roots. docs/state.md lists every one of them.
const (
	GatewaysDir = "gateways" // under each root: one entry a gateway
	VersionsDir = "versions" // state root: copies of this executable, by build id

	DesiredSuffix = ".yaml" // config/gateways/NAME.yaml

	LockFile          = "gateway.lock"      // flock of whoever mutates
	DaemonLockFile    = "daemon.lock"       // flock held by the daemon for life
	MarkerFile        = "gateway.json"      // the running daemon's marker
	EndpointFile      = "endpoint.json"     // where the gateway last served
	GatewayLogFile    = "gateway.log"       // daemon log, size-rotated
	DatabaseFile      = "gateway.db"        // SQLite, WAL
	JournalFile       = "journal.jsonl"     // intents and outcomes
	CredentialKeyFile = "credentials.key"   // age identity that encrypts stored credentials
	RegistrationFile  = "registration.json" // which OpenShell registration files are ours
	TLSDir            = "tls"               // bootstrap secrets
	CACertFile        = "ca.crt"            // tls/
	CAKeyFile         = "ca.key"            // tls/
	ServerDir         = "server"            // tls/server/
	ClientDir         = "client"            // tls/client/
	TLSCertFile       = "tls.crt"           // tls/{server,client}/
	TLSKeyFile        = "tls.key"           // tls/{server,client}/
	JWTDir            = "jwt"               // sandbox token key
	JWTSigningFile    = "signing.pem"       // jwt/
	JWTPublicFile     = "public.pem"        // jwt/
	JWTKeyIDFile      = "kid"               // jwt/
	HandshakeFile     = "ssh-handshake"     // generation 1 only
	BackupDir         = "backup"            // replaced key material
	SandboxesDir      = "sandboxes"         // one directory a sandbox, by id
	TombstonesDir     = "deleted"           // one file a sandbox deleted while the gateway was down
	HandleFile        = "handle.json"       // the sandbox's durable record
	LaunchFile        = "launch.json"       // what its supervisor was started with
	TokenFile         = "token"             // its supervisor's token for the gateway
	SupervisorLock    = "supervisor.lock"   // flock held by the supervisor for life
	WorkspaceDir      = "workspace"         // the sandbox's /sandbox
	LogDir            = "log"               // the sandbox's logs
	AgentLogFile      = "agent.log"         // log/, size-rotated
	SupervisorLogFile = "supervisor.log"    // log/, size-rotated
	GatewaySocketFile = "gateway.sock"      // run root
	RelaySocketFile   = "relay.sock"        // run root
	OpenShellConfig   = "openshell"         // under the user's config root
	ActiveGatewayFile = "active_gateway"    // openshell/
	MetadataFile      = "metadata.json"     // openshell/gateways/NAME/
	MTLSDir           = "mtls"              // openshell/gateways/NAME/
	EdgeTokenFile     = "edge_token"        // openshell/gateways/NAME/, never written
	OIDCTokenFile     = "oidc_token.json"   // openshell/gateways/NAME/, never written
	ProcessFile       = "openshell.json"    // the marker of a host openshell-gateway process
	ProcessIDFile     = "openshell.pid"     // its pid, for people and tools; never believed
	ProcessLogFile    = "openshell.log"     // its standard output and error
	ProcessDatabase   = "openshell.db"      // its store; Creel never opens it
	ContainerFile     = "container.json"    // the container that a gateway was last seen ready in
	ProcessConfigFile = "openshell.toml"    // its configuration, where its version reads one
	ServedFile        = "served.json"       // which build of the gateway last served from this directory
	UpgradeFile       = "upgrade.json"      // an upgrade that is under way
	UpgradeDir        = "upgrade"           // what an upgrade keeps
	KeptDir           = "kept"              // upgrade/: the old gateway's files
	RefusedDir        = "refused"           // upgrade/: what a gateway wrote that did not come up
	OldProgramFile    = "old"               // upgrade/: the old gateway's executable, runtime openshell
	PortForwardLock   = "portforward.lock"  // flock held by the port-forward to a gateway in a cluster
	PortForwardFile   = "portforward.json"  // its marker
	PortForwardLog    = "portforward.log"   // what it has to say
	ServiceFile       = "service.json"      // which unit of a service manager keeps the gateway
	ServiceProgram    = "creel"             // link to the executable that the unit runs
	StartFile         = "start.json"        // what a service's daemon takes in place of the document's settings
)

// MaxSocketPath is the longest path a Unix socket can have on Linux (sun_path
// holds 108 bytes with the closing NUL).
const MaxSocketPath = 107

// Roots are the three directories that everything of Creel's lives in, and the
// configuration root of OpenShell clients. All are absolute.
type Roots struct {
	Config    string
	State     string
	Run       string
	OpenShell string
}

// RootsFrom derives the roots from the environment: CREEL_HOME, else the XDG
// directories below HOME; for sockets /run/user/UID also where the environment does
// not name it. OpenShell's root follows XDG_CONFIG_HOME, or lies in
// CREEL_HOME/config when that is set. A CREEL_HOME that exists and is not a
// directory is an error. Nothing is created.
func RootsFrom(getenv func(string) string) (Roots, error) {
	if home := getenv("CREEL_HOME"); home != "" {
		abs, err := filepath.Abs(home)
		if err != nil {
			return Roots{}, fmt.Errorf("resolve CREEL_HOME: %w", err)
		}
		if fi, err := os.Stat(abs); err == nil && !fi.IsDir() {
			return Roots{}, &NotDirectory{Path: abs, What: "CREEL_HOME"}
		}
		config := filepath.Join(abs, "config")
		openshell := filepath.Join(config, OpenShellConfig)
		if x := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(x) {
			openshell = filepath.Join(x, OpenShellConfig)
		}
		return Roots{Config: config, State: filepath.Join(abs, "state"), Run: filepath.Join(abs, "run"),
			OpenShell: openshell}, nil
	}
	home := getenv("HOME")
	xdg := func(name, fallback string) (string, error) {
		if v := getenv(name); filepath.IsAbs(v) { // relative values are to be ignored, says the XDG specification
			return v, nil
		}
		if !filepath.IsAbs(home) {
			return "", fmt.Errorf("neither CREEL_HOME, %s nor HOME names a directory", name)
		}
		return filepath.Join(home, fallback), nil
	}
	config, err := xdg("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return Roots{}, err
	}
	st, err := xdg("XDG_STATE_HOME", filepath.Join(".local", "state"))
	if err != nil {
		return Roots{}, err
	}
	r := Roots{Config: filepath.Join(config, "creel"), State: filepath.Join(st, "creel"),
		OpenShell: filepath.Join(config, OpenShellConfig)}
	r.Run = filepath.Join(r.State, "run")
	if v := runtimeDir(getenv, os.Geteuid()); v != "" {
		r.Run = filepath.Join(v, "creel")
	}
	return r, nil
}

// runtimeDir is the user's directory for sockets, "" without one. A login session
// says where it is, su and sudo do not or name the earlier user's, and all shall find
// the same socket. Whoever else may write there could listen in the gateway's place:
// only the user's own will do. Root's is no place for one: it goes with root's last
// session, and what runs at boot has none.
func runtimeDir(getenv func(string) string, uid int) string {
	usual := fmt.Sprintf("/run/user/%d", uid)
	for _, dir := range []string{getenv("XDG_RUNTIME_DIR"), usual} {
		if filepath.IsAbs(dir) && !(uid == 0 && filepath.Clean(dir) == usual) && ownDir(dir, uid) {
			return dir
		}
	}
	return ""
}

// ownDir reports a directory that belongs to user uid and that nobody else can write
// to or put another in the place of.
func ownDir(dir string, uid int) bool {
	fi, err := os.Stat(dir)
	return err == nil && fi.IsDir() && owner(fi) == uid && checkPath(dir, uid) == nil
}

// NotDirectory is the error of a root that exists and is something else.
type NotDirectory struct{ Path, What string }

// Error names the path.
func (e *NotDirectory) Error() string {
	return fmt.Sprintf("%s: %s is not a directory", e.What, e.Path)
}

// Gateway returns the paths of one gateway.
func (r Roots) Gateway(name string) Gateway { return Gateway{Roots: r, Name: name} }

// Versions is the directory with copies of this executable.
func (r Roots) Versions() string { return filepath.Join(r.State, VersionsDir) }

// DesiredFiles is the directory that holds one NAME.yaml a gateway.
func (r Roots) DesiredFiles() string { return filepath.Join(r.Config, GatewaysDir) }

// GatewayNames lists, sorted, the gateways that have a desired state or a state
// directory. A root that does not exist has none; one that cannot be read is an
// error, beside the names that the other told.
func (r Roots) GatewayNames() ([]string, error) {
	var names []string
	var problems []error
	read := func(dir string, name func(fs.DirEntry) (string, bool)) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Errorf("list gateways: %w", err))
		}
		for _, e := range entries {
			if n, ok := name(e); ok && !strings.HasPrefix(n, ".") {
				names = append(names, n)
			}
		}
	}
	read(r.DesiredFiles(), func(e fs.DirEntry) (string, bool) { return strings.CutSuffix(e.Name(), DesiredSuffix) })
	read(filepath.Join(r.State, GatewaysDir), func(e fs.DirEntry) (string, bool) { return e.Name(), e.IsDir() })
	slices.Sort(names)
	return slices.Compact(names), errors.Join(problems...)
}

// Gateway names the files of one gateway.
type Gateway struct {
	Roots Roots
	Name  string
}

// Desired is the file of the desired state.
func (g Gateway) Desired() string { return filepath.Join(g.Roots.DesiredFiles(), g.Name+DesiredSuffix) }

// Dir is the gateway's directory under the state root.
func (g Gateway) Dir() string { return filepath.Join(g.Roots.State, GatewaysDir, g.Name) }

// RunDir is the gateway's directory for sockets.
func (g Gateway) RunDir() string { return filepath.Join(g.Roots.Run, GatewaysDir, g.Name) }

// File is a file or directory directly below Dir, by one of this package's names.
func (g Gateway) File(name string) string { return filepath.Join(g.Dir(), name) }

// Lock is the flock of whoever mutates this gateway.
func (g Gateway) Lock() string { return g.File(LockFile) }

// Marker is the running daemon's marker.
func (g Gateway) Marker() string { return g.File(MarkerFile) }

// Journal is the append-only record.
func (g Gateway) Journal() string { return g.File(JournalFile) }

// Database is the gateway's store.
func (g Gateway) Database() string { return g.File(DatabaseFile) }

// Log is the daemon's log.
func (g Gateway) Log() string { return g.File(GatewayLogFile) }

// Socket is the Unix socket that supervisors dial.
func (g Gateway) Socket() string { return filepath.Join(g.RunDir(), GatewaySocketFile) }

// RelaySocket is the Unix socket on which supervisors hand over connections.
func (g Gateway) RelaySocket() string { return filepath.Join(g.RunDir(), RelaySocketFile) }

// Registration is the directory that OpenShell clients read for this gateway.
func (g Gateway) Registration() string {
	return filepath.Join(g.Roots.OpenShell, GatewaysDir, g.Name)
}

// Sandboxes is the directory that holds one directory a sandbox.
func (g Gateway) Sandboxes() string { return g.File(SandboxesDir) }

// Tombstone marks a sandbox that was deleted while the gateway was down. It is
// outside of the sandbox's directory, so that it can be there before that goes.
func (g Gateway) Tombstone(id string) string { return filepath.Join(g.File(TombstonesDir), id) }

// Sandbox returns the paths of one sandbox by its id.
func (g Gateway) Sandbox(id string) Sandbox {
	return Sandbox{dir: filepath.Join(g.Sandboxes(), id)}
}

// Sandbox names the files of one sandbox.
type Sandbox struct{ dir string }

// Dir is the sandbox's directory.
func (s Sandbox) Dir() string { return s.dir }

// File is a file directly below Dir.
func (s Sandbox) File(name string) string { return filepath.Join(s.dir, name) }

// Workspace is what the sandbox sees as /sandbox.
func (s Sandbox) Workspace() string { return s.File(WorkspaceDir) }

// Log is a file below the sandbox's log directory.
func (s Sandbox) Log(name string) string { return filepath.Join(s.dir, LogDir, name) }

// CheckSocketPath reports a socket path that the kernel would refuse.
func CheckSocketPath(path string) error {
	if len(path) > MaxSocketPath {
		return fmt.Errorf("socket path %s has %d bytes, the limit is %d: choose a shorter CREEL_HOME or XDG_RUNTIME_DIR", path, len(path), MaxSocketPath)
	}
	return nil
}

package openshell

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"creel/internal/advisory"
	"creel/internal/gateway/release"
	"creel/internal/state"
)

// OpenShell moved what its Docker driver is told from the environment into a TOML
// file, whose schema is strict: a field that a version does not know keeps it from
// starting. So only fields are written that every version of a range has; what can be
// said in the environment, where unknown names do no harm, is said there.
//
// Sources: OpenShell's gateway configuration reference and RFC 0003, its release
// notes (the driver's settings in the file: up to 0.0.44; sandbox tokens: 0.0.47;
// users without a credential: 0.0.50; schema 2: 0.1.0).

// document is the file. Exactly one of the two schemas' fields is set.
type document struct {
	OpenShell struct {
		Version int `toml:"version"`
		Gateway struct {
			ComputeDrivers []string `toml:"compute_drivers,omitempty"` // schema 1
			ComputeDriver  string   `toml:"compute_driver,omitempty"`  // schema 2
			guestTLS                // schema 2
			JWT            *jwt     `toml:"gateway_jwt,omitempty"`
			Auth           *auth    `toml:"auth,omitempty"`
		} `toml:"gateway"`
		Drivers struct {
			Docker docker `toml:"docker"`
		} `toml:"drivers"`
	} `toml:"openshell"`
}

// guestTLS is what sandboxes reach the gateway with.
type guestTLS struct {
	CA   string `toml:"guest_tls_ca,omitempty"`
	Cert string `toml:"guest_tls_cert,omitempty"`
	Key  string `toml:"guest_tls_key,omitempty"`
}

// jwt is the key of sandbox tokens. Without a lifetime they do not expire, which is
// what a gateway wants whose machine may sleep.
type jwt struct {
	Signing string `toml:"signing_key_path"`
	Public  string `toml:"public_key_path"`
	KeyID   string `toml:"kid_path"`
	Gateway string `toml:"gateway_id"`
}

type auth struct {
	Unauthenticated bool `toml:"allow_unauthenticated_users"`
}

type docker struct {
	Namespace       string `toml:"sandbox_namespace,omitempty"` // schema 1
	Label           string `toml:"sandbox_label,omitempty"`     // schema 2, the same thing
	Endpoint        string `toml:"grpc_endpoint,omitempty"`     // schema 1; later it is derived
	Network         string `toml:"network_name,omitempty"`      // schema 1; later there is none
	SupervisorBin   string `toml:"supervisor_bin,omitempty"`
	SupervisorImage string `toml:"supervisor_image,omitempty"`
	guestTLS               // schema 1
}

// schemaOf is the schema of the file that a version reads; 0 is none, also for a
// version that is not known: then the environment has to do.
func schemaOf(r release.Release) int {
	switch {
	case r.AtLeast(0, 1, 0):
		return 2
	case r.AtLeast(0, 0, 44):
		return 1
	}
	return 0
}

const configHeader = "# Written by Creel at each start of the gateway.\n"

// configuration is the content of the file that a version reads; empty when it reads
// none. namespace, if not empty, labels the containers of this gateway's sandboxes.
func (r *Runtime) configuration(v release.Release, environment map[string]string, namespace string) (string, error) {
	schema := schemaOf(v)
	if schema == 0 {
		return "", nil
	}
	g := r.cfg.Gateway
	var d document
	d.OpenShell.Version = schema
	gateway, driver := &d.OpenShell.Gateway, &d.OpenShell.Drivers.Docker
	driver.SupervisorBin, driver.SupervisorImage = environment["OPENSHELL_DOCKER_SUPERVISOR_BIN"], environment["OPENSHELL_DOCKER_SUPERVISOR_IMAGE"]
	guest := &driver.guestTLS
	if schema == 1 {
		gateway.ComputeDrivers = []string{driverName}
		driver.Namespace, driver.Endpoint, driver.Network = namespace, environment["OPENSHELL_GRPC_ENDPOINT"], environment["OPENSHELL_DOCKER_NETWORK_NAME"]
	} else {
		gateway.ComputeDriver = driverName
		driver.Label = namespace
		guest = &gateway.guestTLS
	}
	if !r.cfg.Plaintext {
		tls := g.File(state.TLSDir)
		*guest = guestTLS{CA: filepath.Join(tls, state.CACertFile), Cert: filepath.Join(tls, state.ClientDir, state.TLSCertFile), Key: filepath.Join(tls, state.ClientDir, state.TLSKeyFile)}
	} else if v.AtLeast(0, 0, 50) {
		// Plaintext was asked for: there is no certificate that could tell a user.
		gateway.Auth = &auth{Unauthenticated: true}
	}
	if v.AtLeast(0, 0, 47) {
		keys := g.File(state.JWTDir)
		gateway.JWT = &jwt{Signing: filepath.Join(keys, state.JWTSigningFile), Public: filepath.Join(keys, state.JWTPublicFile),
			KeyID: filepath.Join(keys, state.JWTKeyIDFile), Gateway: g.Name}
	}
	b, err := toml.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("write the gateway's configuration: %w", err)
	}
	return configHeader + string(b), nil
}

// namespace is what labels the containers of this gateway's sandboxes, so that two
// gateways of one machine do not take each other's for their own. A gateway that has
// labelled containers already goes on as it began: it would not find them again.
func (r *Runtime) namespace() (string, error) {
	path := r.cfg.Gateway.File(state.ProcessConfigFile)
	b, err := state.ReadSmall(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(r.cfg.Gateway.File(state.ProcessDatabase)); err == nil {
			return "", nil // from before there was a file: the program's own
		}
		return "openshell-" + r.cfg.Gateway.Name, nil
	case err != nil:
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	var d document
	if err := toml.Unmarshal(b, &d); err != nil {
		return "", advisory.New("gateway-record-invalid", path+" is not what Creel wrote there", err).At(path)
	}
	if d.OpenShell.Version == 1 {
		return d.OpenShell.Drivers.Docker.Namespace, nil
	}
	return d.OpenShell.Drivers.Docker.Label, nil
}

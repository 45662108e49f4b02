package openshell

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"creel/internal/advisory"
	"creel/internal/gateway/release"
	"creel/internal/state"
)

// program is what the gateway's executable is called.
const program = "openshell-gateway"

// variables name the executable, the first that is set.
var variables = []string{"CREEL_OPENSHELL_GATEWAY_BIN", "NEMOCLAW_OPENSHELL_GATEWAY_BIN"}

// Find returns the gateway's executable: the one that a variable names, else the
// one beside openshell, else one of the usual places. What a variable names is
// taken or refused, never replaced by another.
func Find(getenv func(string) string) (string, error) {
	for _, v := range variables {
		named := getenv(v)
		if named == "" {
			continue
		}
		path, err := filepath.Abs(named)
		if err == nil {
			err = runnable(path)
		}
		if err != nil {
			return "", advisory.New("gateway-binary-missing", v, err)
		}
		return path, nil
	}
	var places []string
	for _, dir := range filepath.SplitList(getenv("PATH")) {
		if filepath.IsAbs(dir) && runnable(filepath.Join(dir, "openshell")) == nil {
			places = append(places, dir)
			break
		}
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		places = append(places, filepath.Join(home, ".local", "bin"))
	}
	places = append(places, "/usr/local/bin", "/usr/bin")
	for _, dir := range places {
		if path := filepath.Join(dir, program); runnable(path) == nil {
			return path, nil
		}
	}
	return "", advisory.New("gateway-binary-missing", fmt.Sprintf("no %s in %s", program, strings.Join(places, ", ")), nil)
}

func runnable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !fi.Mode().IsRegular() || fi.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is no executable file", path)
	}
	return nil
}

// inherited are the variables that the gateway gets of the user's environment. A
// provider's key in the user's shell is none of its business and would be readable
// in /proc (NemoClaw #8952).
var inherited = []string{"PATH", "HOME", "LANG", "TZ", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME",
	"DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "SSL_CERT_FILE", "SSL_CERT_DIR", "RUST_LOG", "RUST_BACKTRACE",
	"OPENSHELL_DOCKER_SUPERVISOR_IMAGE", "OPENSHELL_DOCKER_SUPERVISOR_BIN"}

// databaseURL tells our gateway's process from every other.
func (r *Runtime) databaseURL() string {
	return "sqlite:" + r.cfg.Gateway.File(state.ProcessDatabase) + "?mode=rwc"
}

// environment is everything that the gateway's process gets. The names are those of
// OpenShell 0.0.37 to 0.0.116, and what its other versions want; a name that a version
// does not know does no harm.
func (r *Runtime) environment(binary string, port int, v release.Release) map[string]string {
	g := r.cfg.Gateway
	env := map[string]string{}
	for _, name := range inherited {
		if v := r.cfg.Getenv(name); v != "" {
			env[name] = v
		}
	}
	if beside := filepath.Join(filepath.Dir(binary), "openshell-sandbox"); env["OPENSHELL_DOCKER_SUPERVISOR_IMAGE"] == "" &&
		env["OPENSHELL_DOCKER_SUPERVISOR_BIN"] == "" && runnable(beside) == nil {
		env["OPENSHELL_DOCKER_SUPERVISOR_BIN"] = beside
	}
	scheme := "https://"
	if r.cfg.Plaintext {
		scheme = "http://"
		env["OPENSHELL_DISABLE_TLS"] = "true"
	} else {
		tls := g.File(state.TLSDir)
		env["OPENSHELL_TLS_CERT"] = filepath.Join(tls, state.ServerDir, state.TLSCertFile)
		env["OPENSHELL_TLS_KEY"] = filepath.Join(tls, state.ServerDir, state.TLSKeyFile)
		env["OPENSHELL_TLS_CLIENT_CA"] = filepath.Join(tls, state.CACertFile)
		if schemaOf(v) > 0 { // whom a client certificate names is a user
			env["OPENSHELL_ENABLE_MTLS_AUTH"] = "true"
		}
	}
	if schemaOf(v) > 0 {
		// Also so that a file of the user's own is not read in its place.
		env["OPENSHELL_GATEWAY_CONFIG"] = g.File(state.ProcessConfigFile)
	}
	if schemaOf(v) > 1 {
		env["OPENSHELL_COMPUTE_DRIVER"] = driverName
	} else {
		env["OPENSHELL_DRIVERS"] = driverName
	}
	env["OPENSHELL_BIND_ADDRESS"] = bind
	env["OPENSHELL_SERVER_PORT"] = strconv.Itoa(port)
	env["OPENSHELL_DB_URL"] = r.databaseURL()
	env["OPENSHELL_GRPC_ENDPOINT"] = scheme + bind + ":" + strconv.Itoa(port)
	// Two gateways of one machine share no network.
	env["OPENSHELL_DOCKER_NETWORK_NAME"] = "openshell-" + g.Name
	return env
}

// listed is an environment as a process gets it, sorted.
func listed(env map[string]string) []string {
	all := make([]string, 0, len(env))
	for name, v := range env {
		all = append(all, name+"="+v)
	}
	slices.Sort(all)
	return all
}

// driverName is how the gateway runs sandboxes.
const driverName = "docker"

// hash is the digest of what the gateway behaves by. A changed PATH or language is
// no reason to restart it.
func hash(environment []string, config string) string {
	h := sha256.New()
	for _, e := range environment {
		if strings.HasPrefix(e, "OPENSHELL_") || strings.HasPrefix(e, "DOCKER_") {
			fmt.Fprintf(h, "%s\x00", e)
		}
	}
	if config != "" {
		fmt.Fprintf(h, "%s\x00", config)
	}
	return hex.EncodeToString(h.Sum(nil))
}

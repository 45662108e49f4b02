package openshell

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"creel/internal/gateway"
	"creel/internal/gateway/release"
	"creel/internal/gateway/upgrade"
	"creel/internal/host"
	"creel/internal/state"
)

// runtimeName is this runtime in records.
const runtimeName = "openshell"

// settings are what a gateway is launched with besides its executable. They are on
// disk while it runs, so that it can be launched again as it was.
type settings struct {
	Port        int      `json:"port"`
	Plaintext   bool     `json:"plaintext"`
	Environment []string `json:"environment"`
	Config      string   `json:"config"` // content of openshell.toml; empty: none
	DockerHost  string   `json:"docker_host"`
	// Told is the version that the program told of itself, empty when it told none;
	// Program is the file that was asked.
	Told    string   `json:"told"`
	Program identity `json:"program"`
}

// settings are those with which a program of this version would be launched now.
func (r *Runtime) settings(binary string, port int, told string) (settings, error) {
	v, _ := release.Parse(told)
	namespace, err := r.namespace()
	if err != nil {
		return settings{}, err
	}
	env := r.environment(binary, port, v)
	config, err := r.configuration(v, env, namespace)
	if err != nil {
		return settings{}, err
	}
	s := settings{Port: port, Plaintext: r.cfg.Plaintext, Environment: listed(env), Config: config, DockerHost: r.cfg.Getenv("DOCKER_HOST"), Told: told}
	if s.Program, err = identify(binary); err != nil {
		return s, host.Explain(err, binary)
	}
	return s, nil
}

// side is a gateway that would be launched with these settings. What it tells in
// Health is its version where the program does not tell one beforehand.
func (s settings) side(health, binary string) (upgrade.Side, error) {
	version := s.Told
	if version == "" {
		version = health
	}
	b, err := json.Marshal(s)
	return upgrade.Side{Version: version, Executable: binary, Settings: b}, err
}

func settingsOf(s upgrade.Side) (settings, error) {
	var with settings
	d := json.NewDecoder(bytes.NewReader(s.Settings))
	d.DisallowUnknownFields()
	if err := d.Decode(&with); err != nil {
		return with, fmt.Errorf("read the settings of OpenShell %s: %w", s, err)
	}
	return with, nil
}

// served are the settings of the gateway that last proved healthy; nil when they are
// not known. What that means for a start is records' to say.
func (r *Runtime) served() *settings {
	s, err := upgrade.Served(r.cfg.Gateway, runtimeName)
	if err != nil || s == nil {
		return nil
	}
	with, err := settingsOf(*s)
	if err != nil {
		return nil
	}
	return &with
}

// runningSide is the gateway that runs, as it can be launched again from a copy of its
// executable: with what is recorded or, where that is of another one, with what its
// process was started with.
func (r *Runtime) runningSide(m marker, o gateway.Observation, executable string) (upgrade.Side, error) {
	if with := r.served(); with != nil && with.Program.Path == m.Binary && hash(with.Environment, with.Config) == m.EnvironmentHash {
		return with.side(o.Identity.Version, executable)
	}
	environment, err := processEnvironment(m.PID)
	if err != nil {
		return upgrade.Side{}, err
	}
	with := settings{Port: m.Port, Plaintext: m.Plaintext, DockerHost: m.DockerHost, Config: r.configOf(environment)}
	ours := r.environment(m.Binary, m.Port, release.Release{})
	for _, e := range environment {
		// Nothing else: it is written to disk, and somebody else may have started it.
		name, _, _ := strings.Cut(e, "=")
		if _, known := ours[name]; known || slices.Contains(inherited, name) || slices.Contains(sometimes, name) {
			with.Environment = append(with.Environment, e)
		}
	}
	slices.Sort(with.Environment)
	return with.side(o.Identity.Version, executable)
}

// sometimes are variables that only some gateways are started with.
var sometimes = []string{"OPENSHELL_GATEWAY_CONFIG", "OPENSHELL_COMPUTE_DRIVER", "OPENSHELL_DRIVERS", "OPENSHELL_ENABLE_MTLS_AUTH", "OPENSHELL_DISABLE_TLS",
	"OPENSHELL_TLS_CERT", "OPENSHELL_TLS_KEY", "OPENSHELL_TLS_CLIENT_CA"}

// configOf is the content of our configuration file, if an environment names it.
func (r *Runtime) configOf(environment []string) string {
	path := r.cfg.Gateway.File(state.ProcessConfigFile)
	if !slices.Contains(environment, "OPENSHELL_GATEWAY_CONFIG="+path) {
		return ""
	}
	b, err := state.ReadSmall(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// available reports that the executable of a gateway that ran is still that file.
func available(s upgrade.Side) bool {
	with, err := settingsOf(s)
	if err != nil {
		return false
	}
	now, err := identify(s.Executable)
	return err == nil && now == with.Program
}

// hasDatabase reports that a gateway has served here; unknown counts as one.
func (r *Runtime) hasDatabase() bool {
	_, err := os.Lstat(r.cfg.Gateway.File(state.ProcessDatabase))
	return !errors.Is(err, fs.ErrNotExist)
}

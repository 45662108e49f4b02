package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// The configuration file as versions of OpenShell read it: strictly, and each only
// its own schema.

type guest struct {
	CA   string `toml:"guest_tls_ca"`
	Cert string `toml:"guest_tls_cert"`
	Key  string `toml:"guest_tls_key"`
}

type tokens struct {
	Signing string `toml:"signing_key_path"`
	Public  string `toml:"public_key_path"`
	KeyID   string `toml:"kid_path"`
	Gateway string `toml:"gateway_id"`
	TTL     *int   `toml:"ttl_secs"`
}

type users struct {
	Unauthenticated bool `toml:"allow_unauthenticated_users"`
}

// first is schema 1 with what 0.0.44 knows, and what later versions added to it.
type first struct {
	OpenShell struct {
		Version int `toml:"version"`
		Gateway struct {
			Drivers []string `toml:"compute_drivers"`
			Tokens  *tokens  `toml:"gateway_jwt"` // 0.0.47
			Auth    *users   `toml:"auth"`        // 0.0.50
		} `toml:"gateway"`
		Drivers struct {
			Docker struct {
				Namespace string `toml:"sandbox_namespace"`
				Endpoint  string `toml:"grpc_endpoint"`
				Network   string `toml:"network_name"`
				Bin       string `toml:"supervisor_bin"`
				Image     string `toml:"supervisor_image"`
				guest
			} `toml:"docker"`
		} `toml:"drivers"`
	} `toml:"openshell"`
}

// second is schema 2, from 0.1.0 on.
type second struct {
	OpenShell struct {
		Version int `toml:"version"`
		Gateway struct {
			Driver string  `toml:"compute_driver"`
			Tokens *tokens `toml:"gateway_jwt"`
			Auth   *users  `toml:"auth"`
			guest
		} `toml:"gateway"`
		Drivers struct {
			Docker struct {
				Label string `toml:"sandbox_label"`
				Bin   string `toml:"supervisor_bin"`
				Image string `toml:"supervisor_image"`
			} `toml:"docker"`
		} `toml:"drivers"`
	} `toml:"openshell"`
}

// configure reads the file that the environment names, as this version does.
func configure(version string, reached func(string)) {
	path := os.Getenv("OPENSHELL_GATEWAY_CONFIG")
	minor, patch := numbers(version)
	if path == "" || minor == 0 && patch < 44 {
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		fatal(fmt.Errorf("failed to read gateway config file: %w", err))
	}
	var keys *tokens
	var label string
	var tls guest
	if minor > 0 {
		var c second
		strict(content, &c)
		if c.OpenShell.Version != 2 {
			fatal(fmt.Errorf("unsupported gateway config version %d; this build requires version 2", c.OpenShell.Version))
		}
		keys, label, tls = c.OpenShell.Gateway.Tokens, c.OpenShell.Drivers.Docker.Label, c.OpenShell.Gateway.guest
	} else {
		var c first
		strict(content, &c)
		switch {
		case c.OpenShell.Version != 1:
			fatal(fmt.Errorf("unsupported gateway config version %d; this build requires version 1", c.OpenShell.Version))
		case c.OpenShell.Gateway.Tokens != nil && patch < 47:
			fatal(fmt.Errorf("unknown field `gateway_jwt`"))
		case c.OpenShell.Gateway.Auth != nil && patch < 50:
			fatal(fmt.Errorf("unknown field `auth`"))
		}
		keys, label, tls = c.OpenShell.Gateway.Tokens, c.OpenShell.Drivers.Docker.Namespace, c.OpenShell.Drivers.Docker.guest
	}
	if minor > 0 || patch >= 47 {
		if keys == nil {
			fatal(fmt.Errorf("sandbox tokens cannot be signed: gateway_jwt is missing"))
		}
		readable(keys.Signing, keys.Public, keys.KeyID)
	}
	if os.Getenv("OPENSHELL_TLS_CERT") != "" {
		readable(tls.CA, tls.Cert, tls.Key)
	}
	reached("configured label=" + label)
}

func strict(content []byte, v any) {
	d := toml.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		fatal(fmt.Errorf("failed to parse gateway config file: %w", err))
	}
}

func readable(paths ...string) {
	for _, path := range paths {
		if _, err := os.ReadFile(path); err != nil {
			fatal(err)
		}
	}
}

// numbers are the last two of a version's three.
func numbers(version string) (minor, patch int) {
	parts := strings.Split(strings.TrimLeft(version, "v"), ".")
	if len(parts) > 1 {
		minor, _ = strconv.Atoi(parts[1])
	}
	if len(parts) > 2 {
		digits, _, _ := strings.Cut(parts[2], "-")
		patch, _ = strconv.Atoi(digits)
	}
	return minor, patch
}

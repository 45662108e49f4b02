package client

import (
	"strings"
	"testing"

	"creel/internal/advisory"
)

func TestCheckVersion(t *testing.T) {
	const supported, cluster, later, mute, noise = "", "cluster in a container", "another way", "does not tell", "cannot be read"
	for version, says := range map[string]string{
		"0.0.37": supported, "0.0.88": supported, "0.0.116": supported, "v0.0.80": supported, "V0.0.80": supported, " 0.0.80 ": supported,
		"0.0.80-rc.1": supported, "0.0.80+g12ab": supported, "0.0.37-rc.1": supported, "0.0.103-rhaiv.0": supported, "0.0.116-dev.1+g12ab": supported,
		"0.0.20261125": supported,
		"0.0.36":       cluster, "0.0.1": cluster, "0.0.36-rc.2": cluster, "v0.0.36": cluster, "0.0": cluster, "0.0.0": cluster,
		"0.1.0": later, "0.1": later, "1.0.0": later, "0.1.0-alpha": later, "v0.1.0-pre.1": later, "0.10.2": later, "2.0": later, "v1.0": later,
		"":    mute,
		"dev": noise, "0.0.-1": noise, "0.0.80.1": noise, "0": noise, "v": noise, "vv0.0.80": noise, "0.0.x": noise, "latest": noise,
		"0.0.80-": noise, "0.0.080": noise, "openshell 0.0.80": noise, "0.0.99999999999": noise, "0.0.80\x1b[31m": noise, strings.Repeat("9", 5000): noise,
	} {
		err := CheckVersion(version)
		if (err == nil) != (says == "") {
			t.Errorf("%q: %v", version, err)
			continue
		}
		if err == nil {
			continue
		}
		if p, ok := advisory.Of(err); !ok || p.ID != "gateway-version-unsupported" {
			t.Errorf("%q: advisory of %v", version, err)
		}
		if len(err.Error()) > 400 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%.40q: what it told is shown as it came: %.100q", version, err.Error())
		}
		if !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "supported is OpenShell 0.0.37") {
			t.Errorf("%q: %v", version, err)
		}
	}
}

func TestClusterEra(t *testing.T) {
	for version, want := range map[string]bool{"0.0.36": true, "v0.0.1": true, "0.0.36-dev": true, "0.0.37": false, "0.1.0": false, "1.0.0": false, "": false, "x": false} {
		if got := ClusterEra(version); got != want {
			t.Errorf("ClusterEra(%q) = %t", version, got)
		}
	}
}

package client

import (
	"strings"
	"testing"

	"creel/internal/advisory"
)

func TestCheckVersion(t *testing.T) {
	for version, says := range map[string]string{
		"0.0.37": "", "0.0.88": "", "0.0.116": "", "v0.0.80": "", "0.0.80-rc.1": "", "0.0.80+g12ab": "",
		"0.0.36": "cluster in a container", "0.0.1": "cluster in a container",
		"0.1.0": "another way", "0.1": "another way", "1.0.0": "another way", "0.1.0-alpha": "another way",
		"": "does not tell", "dev": "cannot be read", "0.0.-1": "cannot be read", "0.0.80.1": "cannot be read", "0": "cannot be read",
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

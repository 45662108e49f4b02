package classify

import "testing"

func TestVersion(t *testing.T) {
	for text, want := range map[string]string{
		"openshell 0.0.36\n": "0.0.36", "openshell v0.0.36 (abc 1)": "0.0.36", "\x1b[1mopenshell\x1b[0m 0.0.37-dev": "0.0.37",
		"": "", "openshell": "", "openshell 1.2": "", "1.2.3.4": "", "Error: x": "",
	} {
		if got := Version(text); got != want {
			t.Errorf("Version(%q) = %q, want %q", text, got, want)
		}
	}
	for image, want := range map[string]string{
		"ghcr.io/nvidia/openshell/cluster:0.0.36": "0.0.36", "localhost:5000/cluster:v0.0.7": "0.0.7",
		"cluster:0.0.36@sha256:00ff": "0.0.36",
		"cluster":                    "", "cluster:latest": "", "cluster:0.0.36-dev": "", "cluster@sha256:00ff": "", "localhost:5000/cluster": "", "": "",
	} {
		if got := ImageVersion(image); got != want {
			t.Errorf("ImageVersion(%q) = %q, want %q", image, got, want)
		}
	}
}

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"creel/test/require"
)

// A test that passed in one package does not hide that one of the same name was
// skipped in another.
func TestUnpassedNamesPackages(t *testing.T) {
	bash, err := exec.LookPath("bash")
	require.Feature(t, "bash", err == nil, "apt-get install bash")
	script, err := os.ReadFile("../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	functions := strings.Join(regexp.MustCompile(`(?ms)^(?:outcomes|unpassed|may_skip)\(\) \{.*?^\}$`).FindAllString(string(script), -1), "\n")
	dir := t.TempDir()
	for name, log := range map[string]string{
		"root.log": "=== RUN   TestA\n--- SKIP: TestA (0.00s)\n    --- SKIP: TestB/x (0.00s)\n--- PASS: TestC (0.00s)\nPASS\nok  \tm/one\t(cached)\n" +
			"?   \tm/none\t[no test files]\n--- PASS: TestA (0.00s)\nPASS\nok  \tm/two\t0.1s\n--- SKIP: TestC (0.00s)\n--- FAIL: TestD (0.00s)\nFAIL\nFAIL\tm/three\t0.1s\nFAIL\n",
		"user.log": "    --- PASS: TestB/x (0.00s)\nok  \tm/one\t0.1s\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(log), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(command string) string {
		t.Helper()
		cmd := exec.Command(bash, "-euo", "pipefail", "-c", functions+"\n"+command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if got, want := run("unpassed root.log user.log"), "m/one TestA\nm/three TestC\n"; got != want {
		t.Errorf("unpassed are %q, want %q", got, want)
	}
	for line := range strings.Lines(run("may_skip")) {
		if !regexp.MustCompile(`^creel/\S+ Test\S+\n$`).MatchString(line) {
			t.Errorf("%q is no package and test", line)
		}
	}
}

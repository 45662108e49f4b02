// Package require lets a test skip what a machine lacks, loudly, and lets CI
// turn such a skip into a failure.
package require

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Variable lists, separated by commas, the features whose absence fails a test
// instead of skipping it.
const Variable = "CREEL_TEST_REQUIRE"

// Feature skips t when the machine lacks a feature, saying how to get it. When
// CREEL_TEST_REQUIRE names the feature its absence is a failure.
func Feature(t testing.TB, name string, present bool, how string) {
	t.Helper()
	if present {
		return
	}
	if slices.Contains(strings.Split(os.Getenv(Variable), ","), name) {
		t.Fatalf("%s requires %q, which this machine lacks: %s", Variable, name, how)
	}
	t.Skipf("this machine lacks %q: %s", name, how)
}

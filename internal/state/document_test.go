package state

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

type note struct {
	Version int    `json:"version"`
	Text    string `json:"text"`
}

func TestParseDocument(t *testing.T) {
	for text, want := range map[string]string{
		`{"version":1,"text":"a"}`:              "",
		`{"version":2}`:                         "",
		`{"version":3,"unknown":0}`:             "version 3, this Creel knows 2: written by a newer Creel",
		`{"version":0}`:                         "version 0 does not exist",
		`{"version":-1}`:                        "version -1 does not exist",
		`{"text":"a"}`:                          "version 0 does not exist",
		`null`:                                  "version 0 does not exist",
		`{"version":1,"unknown":0}`:             "unknown field",
		`{"version":1}{"version":1}`:            "parse: ",
		`{"version":1,"text":"a"} "and so on"`:  "parse: ",
		`{"version":"1"}`:                       "parse: ",
		`{"version":1`:                          "parse: ",
		``:                                      "parse: ",
		"{\"version\":1,\"text\":\"a\"}\n\t \n": "",
	} {
		var n note
		err := ParseDocument([]byte(text), 2, &n)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		var newer NewerError
		if errors.As(err, &newer) != strings.Contains(want, "newer") {
			t.Errorf("%q: %#v", text, err)
		}
	}
}

func TestWriteDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "note.json")
	if err := WriteDocument(path, note{1, "a"}); err != nil {
		t.Fatal(err)
	}
	b, err := ReadSmall(path)
	if err != nil || string(b) != "{\n  \"version\": 1,\n  \"text\": \"a\"\n}\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := WriteDocument(path, func() {}); err == nil {
		t.Error("a function was written")
	}
}

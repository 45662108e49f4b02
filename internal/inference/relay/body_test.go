package relay

import (
	"bytes"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func TestSetModelKeepsOneModel(t *testing.T) {
	got, err := setModel([]byte(`{"model":"a","MODEL":1,"model":"b","deep":{"model":"stays"}}`), `m"1`)
	if err != nil || bytes.Count(got, []byte(`"model"`)) != 2 || !bytes.Contains(got, []byte(`"model":"m\"1"`)) || !bytes.Contains(got, []byte(`{"model":"stays"}`)) {
		t.Fatalf("%s, %v", got, err)
	}
}

// Whatever an agent sends, the result is refused or is a JSON object with the
// route's model and every other member as it was.
func FuzzSetModel(f *testing.F) {
	for _, s := range []string{`{}`, `{"model":null}`, `[]`, `null`, `{"a":1e400,"b":"\ud800"}`, "{\"model\":\"x\"}garbage", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := setModel(body, "route/model")
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(body, &before) != nil || json.Unmarshal(got, &after) != nil {
			t.Fatalf("%q became %q", body, got)
		}
		if string(after["model"]) != `"route/model"` {
			t.Fatalf("model is %s", after["model"])
		}
		before["model"] = after["model"]
		if len(before) != len(after) {
			t.Fatalf("%q became %q", body, got)
		}
	})
}

// However a stream is cut, redacting it piece by piece leaves no key, and leaves
// a text without the key as it was.
func TestRedactorIsIndependentOfCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := []byte(rapid.StringMatching(`[ab]{1,5}`).Draw(t, "key"))
		text := []byte(rapid.StringMatching(`[abc]{0,60}`).Draw(t, "text"))
		r, out := redactor{key: key}, []byte{}
		for rest := text; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			piece := bytes.Clone(rest[:n])
			out, rest = append(out, r.push(piece)...), rest[n:]
			if len(r.held) >= len(key) {
				t.Fatalf("holds %q back for key %q", r.held, key)
			}
		}
		out = append(out, r.flush()...)
		if want := bytes.ReplaceAll(text, key, []byte("REDACTED")); !bytes.Equal(out, want) {
			t.Fatalf("key %q in %q: got %q, want %q", key, text, out, want)
		}
	})
}

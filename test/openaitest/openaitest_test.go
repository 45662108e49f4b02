package openaitest_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"creel/test/openaitest"
)

func TestStreamsChunkByChunk(t *testing.T) {
	s := openaitest.Start(t)
	s.SetMode(openaitest.SlowStream)
	go s.Release()
	r, err := http.Post(s.URL+"/chat/completions", "application/json",
		strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	in := bufio.NewScanner(r.Body)
	next := func() string {
		for in.Scan() {
			if line, ok := strings.CutPrefix(in.Text(), "data: "); ok {
				return line
			}
		}
		return ""
	}
	if got := next(); !strings.Contains(got, "Hello ") {
		t.Fatalf("first chunk %q", got)
	}
	for range 4 {
		s.Release()
	}
	var last, text string
	for line := next(); line != ""; line = next() {
		last, text = line, text+line
	}
	if last != "[DONE]" || !strings.Contains(text, `"hi"`) {
		t.Fatalf("rest of the stream: %q", text)
	}
	if got := s.Requests(); len(got) != 1 || got[0].Model != "m" || got[0].Path != "/v1/chat/completions" {
		t.Fatalf("recorded %+v", got)
	}
}

func TestKeyIsRequired(t *testing.T) {
	s := openaitest.Start(t)
	s.SetKey("k")
	for key, want := range map[string]int{"k": 200, "other": 401, "": 401} {
		r, _ := http.NewRequest("GET", s.URL+"/models", nil)
		r.Header.Set("Authorization", "Bearer "+key)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != want {
			t.Errorf("key %q: status %d, want %d", key, a.StatusCode, want)
		}
	}
}

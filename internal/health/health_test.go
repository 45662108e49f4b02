package health

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestZeroIsUnknown(t *testing.T) {
	var r Result
	if r.Verdict != Unknown || r.Absent {
		t.Errorf("the zero result is %v, absent=%v", r.Verdict, r.Absent)
	}
	if got := Summarize(nil); got != SummaryUnknown {
		t.Errorf("no results are %s", got)
	}
	if got := Summarize([]Result{r}); got != SummaryUnknown {
		t.Errorf("a result that nobody filled in is %s", got)
	}
}

func TestSummarize(t *testing.T) {
	ok, failed, unknown := Result{Verdict: OK}, Result{Verdict: Failed}, Result{}
	caveat := Result{Verdict: OK, Caveats: []Caveat{{Advisory: "x"}}}
	for _, c := range []struct {
		name string
		in   []Result
		want Summary
	}{
		{"all hold", []Result{ok, ok}, SummaryOK},
		{"one fails", []Result{ok, failed}, SummaryFailed},
		{"failure before unknown", []Result{failed, unknown}, SummaryFailed},
		{"failure after unknown", []Result{unknown, failed}, SummaryFailed},
		{"unknown outweighs a caveat", []Result{caveat, unknown}, SummaryUnknown},
		{"a caveat after unknown", []Result{unknown, caveat}, SummaryUnknown},
		{"caveat", []Result{ok, caveat, ok}, SummaryDegraded},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Summarize(c.in); got != c.want {
				t.Errorf("Summarize = %s, want %s", got, c.want)
			}
		})
	}
}

// The order of the results does not matter, and ok means that all are.
func TestSummarizeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		results := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Result {
			r := Result{Verdict: rapid.SampledFrom([]Verdict{Unknown, OK, Failed}).Draw(t, "verdict")}
			if rapid.Bool().Draw(t, "caveat") {
				r.Caveats = []Caveat{{Advisory: "x"}}
			}
			return r
		}), 1, 8).Draw(t, "results")
		got := Summarize(results)
		if again := Summarize(rapid.Permutation(results).Draw(t, "permuted")); again != got {
			t.Fatalf("%s in one order, %s in another", got, again)
		}
		if got != SummaryOK {
			return
		}
		for _, r := range results {
			if r.Verdict != OK || len(r.Caveats) > 0 {
				t.Fatalf("ok although %+v", r)
			}
		}
	})
}

func TestVerdictJSON(t *testing.T) {
	for v, want := range map[Verdict]string{Unknown: `"unknown"`, OK: `"ok"`, Failed: `"failed"`, Verdict(9): `"unknown"`} {
		b, err := json.Marshal(v)
		if err != nil || string(b) != want {
			t.Errorf("Marshal(%d) = %s, %v; want %s", v, b, err, want)
		}
	}
	for _, bad := range []string{`"healthy"`, `""`, `1`, `null`} {
		v := Unknown
		if err := json.Unmarshal([]byte(bad), &v); err == nil && v != Unknown {
			t.Errorf("%s is %v", bad, v)
		}
	}
	var v Verdict
	if err := json.Unmarshal([]byte(`"ok"`), &v); err != nil || v != OK {
		t.Errorf("ok is %v, %v", v, err)
	}
	if _, err := ParseVerdict("OK"); err == nil {
		t.Error("a verdict is one of three words")
	}
}

func TestEvidenceJSON(t *testing.T) {
	e := Evidence{Probe: "tcp", Answer: "connected", Verdict: OK, Took: Micros(1500 * time.Microsecond)}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b), `{"probe":"tcp","answer":"connected","verdict":"ok","took_us":1500}`; got != want {
		t.Errorf("JSON = %s, want %s", got, want)
	}
	var back Evidence
	if err := json.Unmarshal(b, &back); err != nil || back != e {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// The link that decided is found among those that held, those that were not asked,
// and one that was asked again later and decided then.
func TestBroken(t *testing.T) {
	held := Evidence{Probe: "process", Answer: "alive", Verdict: OK}
	refused := Evidence{Probe: "tcp", Answer: "refused", Verdict: Failed}
	cut := Evidence{Probe: "tcp", Answer: "cut short", Verdict: Unknown}
	skipped := NotAsked("tls", "tcp did not hold")
	later := Evidence{Probe: "process", Answer: "it has ended meanwhile", Verdict: Failed}
	for name, c := range map[string]struct {
		chain   []Evidence
		message string
		want    Evidence
	}{
		"nothing":        {nil, "", Evidence{}},
		"all held":       {[]Evidence{held, held}, "fine", Evidence{}},
		"failed":         {[]Evidence{held, refused, skipped}, "refused", refused},
		"unknown":        {[]Evidence{held, cut, skipped}, "cut short", cut},
		"decided later":  {[]Evidence{held, refused, skipped, later}, "it has ended meanwhile", later},
		"told otherwise": {[]Evidence{held, refused, skipped, later}, "in other words", refused},
		"only not asked": {[]Evidence{skipped}, "", Evidence{}},
	} {
		got, ok := Broken(c.chain, c.message)
		if got != c.want || ok != (c.want != Evidence{}) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	if skipped.Asked() || !cut.Asked() || !refused.Asked() {
		t.Error("what was asked is not told from what was not")
	}
}

package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"creel/internal/advisory"
	"creel/internal/cli/ui"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// everyCommand walks the tree, the hidden commands too.
func everyCommand(visit func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		visit(c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	root := NewRoot(Deps{})
	root.InitDefaultCompletionCmd()
	walk(root)
}

func TestEveryCommandIsExplained(t *testing.T) {
	count := 0
	everyCommand(func(c *cobra.Command) {
		count++
		path := c.CommandPath()
		if strings.HasPrefix(path, "creel completion") {
			return // the library's own
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || len(c.Short) > 80 {
			t.Errorf("%s: Short is %q: it should say what the command does, in one line without a full stop", path, c.Short)
		}
		if c.Long == "" {
			t.Errorf("%s has no Long", path)
		}
		for line := range strings.Lines(c.Long) {
			if len([]rune(strings.TrimSpace(line))) > 120 && !c.IsAdditionalHelpTopicCommand() {
				t.Errorf("%s: a line of Long is wider than a terminal: %q", path, line)
			}
		}
		if !c.Hidden && !hidden(c) && c.Runnable() && c.Example == "" {
			t.Errorf("%s has no Example", path)
		}
		if c.Runnable() && c.Args == nil {
			t.Errorf("%s does not check its arguments", path)
		}
		if !c.Hidden && c.Parent() == c.Root() && c.Runnable() && c.GroupID == "" {
			t.Errorf("%s is in no group", path)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no usage text", path, f.Name)
			}
			if strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%s --%s: usage text ends in a full stop", path, f.Name)
			}
		})
	})
	if count < 30 {
		t.Errorf("only %d commands were walked", count)
	}
}

func hidden(c *cobra.Command) bool {
	for ; c != nil; c = c.Parent() {
		if c.Hidden {
			return true
		}
	}
	return false
}

// A sandbox named like a command could not be told from it.
func TestCommandNamesAreReserved(t *testing.T) {
	root := NewRoot(Deps{})
	for _, c := range root.Commands() {
		if c.IsAdditionalHelpTopicCommand() || c.Hidden {
			continue
		}
		if !slices.Contains(sandbox.Reserved(), c.Name()) {
			t.Errorf("%q is a command and not a reserved name", c.Name())
		}
	}
}

// An advisory is found by its id, so there is one of each, and it explains.
func TestAdvisoriesExplain(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range advisory.All() {
		if seen[a.ID] {
			t.Errorf("%s is registered twice", a.ID)
		}
		seen[a.ID] = true
		if a.Title == "" || a.Reason == "" || a.Layer == "" || a.Severity == "" {
			t.Errorf("%s lacks a title, a reason, a layer or a severity", a.ID)
		}
		if len(a.Commands) == 0 && a.Severity == advisory.Error {
			t.Errorf("%s names no next command", a.ID)
		}
	}
	for _, a := range advisory.All() {
		for _, cause := range a.DependsOn {
			if !seen[cause] {
				t.Errorf("%s depends on %s, which does not exist", a.ID, cause)
			}
		}
	}
}

// R19: every command printed anywhere exists and parses.
func TestPrintedCommandsParse(t *testing.T) {
	checked := 0
	check := func(where, line string) {
		checked++
		if err := CheckCommand(line); err != nil {
			t.Errorf("%s prints %q: %v", where, line, err)
		}
	}
	for _, a := range advisory.All() {
		for _, line := range a.Commands {
			check("advisory "+a.ID, line)
		}
	}
	everyCommand(func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			check("help of "+c.CommandPath(), strings.TrimSpace(line))
		}
	})
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../README.md") {
		content, err := os.ReadFile(page)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range shellLines(string(content)) {
			check(page, line)
		}
	}
	if checked < 50 {
		t.Errorf("only %d printed commands were found", checked)
	}
}

// shellLines are the lines of code blocks in sh, bash or console; of the last
// only those after a prompt.
func shellLines(page string) []string {
	var lines []string
	block := ""
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if after, fence := strings.CutPrefix(line, "```"); fence {
			if block == "" {
				block = after
				if block == "" {
					block = "text"
				}
			} else {
				block = ""
			}
			continue
		}
		command, prompted := strings.CutPrefix(line, "$ ")
		switch block {
		case "sh", "bash":
			lines = append(lines, command)
		case "console":
			if prompted {
				lines = append(lines, command)
			}
		}
	}
	return lines
}

func TestShellLines(t *testing.T) {
	page := "text\n```sh\ncreel a\n$ creel b\n```\n```console\n$ creel c\noutput\n```\n```\ncreel d\n```\n```yaml\ncreel e\n```\n"
	if diff := cmp.Diff([]string{"creel a", "creel b", "creel c"}, shellLines(page)); diff != "" {
		t.Error(diff)
	}
}

func TestCheckCommand(t *testing.T) {
	for line, good := range map[string]bool{
		"creel":                                   true,
		"creel status":                            true,
		"creel status SANDBOX --json":             true,
		"creel help budgets":                      true,
		"creel help gateway secrets":              true,
		"creel onboard --agent command -- a --b":  true,
		"creel exec SANDBOX -- /bin/sh -c 'a b'":  true,
		"env CREEL_HOME=/x creel list":            true,
		"CREEL_BUDGET_PROBE=9s creel list  # now": true,
		"ss -ltnp":                                true, // another program
		"creel nonsense":                          false,
		"creel budgets":                           false,
		"creel help nonsense":                     false,
		"creel status a b":                        false,
		"creel status --nonsense":                 false,
		"creel gateway nonsense":                  false,
		"creel apply":                             false,
		"creel exec SANDBOX":                      false,
		"creel list 'open":                        false,
		"CREEL_BUDGET_PROBE=9s creel nonsense":    false,
	} {
		if err := CheckCommand(line); (err == nil) != good {
			t.Errorf("CheckCommand(%q) = %v", line, err)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add(`creel exec -- sh -c 'a "b"'`)
	f.Add(`a "" # c`)
	f.Fuzz(func(t *testing.T, line string) {
		list, err := words(line)
		if err != nil {
			return
		}
		// What was split and quoted again is split the same way.
		var quoted []string
		for _, w := range list {
			if strings.Contains(w, "'") {
				t.Skip()
			}
			quoted = append(quoted, "'"+w+"'")
		}
		again, err := words(strings.Join(quoted, " "))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(list, again); diff != "" {
			t.Error(diff)
		}
	})
}

// What an advisory tells to set is on the page about variables.
func TestNamedVariablesAreExplained(t *testing.T) {
	explained := environmentPage(usualWidth) + budgetsPage(usualWidth)
	variable := regexp.MustCompile(`\b(?:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|HOME|KUBECONFIG)\b`)
	checked := 0
	for _, a := range advisory.All() {
		for _, name := range variable.FindAllString(a.Title+" "+a.Reason+" "+strings.Join(a.Commands, " "), -1) {
			checked++
			if name != "CGO_ENABLED" && !strings.Contains(explained, name) { // the Go compiler's
				t.Errorf("%s names %s, which is not in creel help environment", a.ID, name)
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d variables were checked", checked)
	}
}

// Help fits into 80 columns where no terminal is wider, but for commands to copy.
func TestHelpFits(t *testing.T) {
	root := NewRoot(Deps{})
	root.InitDefaultHelpCmd()
	var walk func(*cobra.Command)
	lines := 0
	walk = func(c *cobra.Command) {
		var out strings.Builder
		a := &app{Deps: Deps{Streams: ui.Streams{Out: &out}}}
		a.showHelp(c)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			lines++
			line = strings.TrimRight(line, "\n")
			if utf8.RuneCountInString(line) > usualWidth && !strings.HasPrefix(line, "  creel ") {
				t.Errorf("%s: %q has %d columns", c.CommandPath(), line, utf8.RuneCountInString(line))
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	if lines < 500 {
		t.Errorf("only %d lines were looked at", lines)
	}
}

// A layer's message goes on below itself, at a word.
func TestStatusFits(t *testing.T) {
	doc := StatusDocument{Layers: []health.Result{{Layer: "host", Verdict: health.Failed, Reason: "usage",
		Message: "sandboxes are confined with namespaces, Landlock ABI 7 and seccomp",
		Caveats: []health.Caveat{{Advisory: "usage", Message: strings.Repeat("words and more words ", 6)}}}}}
	for width, want := range map[int]string{80: "7 and\n                   seccomp\n", 120: "7 and seccomp\n", 0: "7 and seccomp\n"} {
		var b strings.Builder
		writeStatus(&b, ui.Terminal{TTY: true, Width: width}, doc, false)
		if !strings.Contains(b.String(), want) {
			t.Errorf("at %d columns:\n%s", width, b.String())
		}
		for line := range strings.Lines(b.String()) {
			if width > 0 && len(line) > min(width, 100)+1 {
				t.Errorf("%q is wider than %d", line, width)
			}
		}
	}
}

// A verdict names the layers that are to blame, as layers, and not what only suffers.
func TestVerdictNamesLayers(t *testing.T) {
	failed := func(layer, subject string) health.Result {
		return health.Result{Layer: layer, Subject: subject, Verdict: health.Failed, Reason: "disk-full"}
	}
	for _, c := range []struct {
		layers []health.Result
		want   string
	}{
		{[]health.Result{{Layer: "gateway", Verdict: health.OK}}, "+ ok: gateway creel, 2 sandboxes"},
		{[]health.Result{failed("gateway", "gateway"), {Layer: "sandbox", Subject: "sandbox/claw", BlockedBy: "gateway"}},
			"x failed at gateway: gateway creel, 2 sandboxes"},
		{[]health.Result{failed("sandbox", "sandbox/web"), failed("dashboard", "sandbox/claw")},
			"x failed at sandbox web and dashboard of claw: gateway creel, 2 sandboxes"},
		{[]health.Result{failed("secrets", "secrets"), failed("a", "a"), failed("b", "b"), failed("c", "c"), failed("d", "d")},
			"x failed at secrets, a, b and 2 more: gateway creel, 2 sandboxes"},
		{[]health.Result{{Layer: "sandbox", Subject: "sandbox/claw", Verdict: health.OK, Caveats: []health.Caveat{{Advisory: "confinement-degraded"}}}},
			"! degraded at sandbox claw: gateway creel, 2 sandboxes"},
	} {
		doc := StatusDocument{Gateway: "creel", Recorded: true, Layers: c.layers, Verdict: health.Summarize(c.layers)}
		doc.Message = statusMessage(doc, 2)
		var b strings.Builder
		writeStatus(&b, ui.Terminal{}, doc, false)
		if first, _, _ := strings.Cut(b.String(), "\n"); first != c.want {
			t.Errorf("%q, want %q", first, c.want)
		}
	}
}

// What is less than well comes with a next command, too, about its own sandbox; beside
// a failure it is not what comes next.
func TestCaveatsHaveNextCommands(t *testing.T) {
	exposed := health.Result{Layer: "dashboard", Subject: "sandbox/web", Verdict: health.OK, Caveats: []health.Caveat{{Advisory: "dashboard-exposed"}}}
	failed := health.Result{Layer: "secrets", Subject: "secrets", Verdict: health.Failed, Reason: "secrets-absent"}
	for _, c := range []struct {
		layers []health.Result
		want   []string
	}{
		{[]health.Result{exposed}, []string{"creel dashboard web", "creel dashboard web --bind 127.0.0.1"}},
		{[]health.Result{failed, exposed}, hintsOf("secrets-absent", nil)},
	} {
		doc := StatusDocument{Gateway: "creel", Recorded: true, Layers: c.layers, Verdict: health.Summarize(c.layers)}
		if diff := cmp.Diff(c.want, statusHints(doc)); diff != "" {
			t.Error(diff)
		}
	}
}

package cli

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/health"
	"creel/internal/onboard/ladder"
)

// documents are the roots of everything that is printed as JSON.
func documents() []any {
	return []any{VersionDocument{}, ListDocument{}, StatusDocument{}, DashboardDocument{}, ForwardsDocument{}, GatewayDocument{}, ServiceDocument{}, GatewaysDocument{}, StatusesDocument{},
		SecretsDocument{}, SecretsRepairDocument{}, RepairDocument{}, UpgradeDocument{}, InferenceDocument{}, FailedDocument{}, ladder.Event{}}
}

// described is what docs/json.md says or what the structs are: by type, the
// fields with their types.
type described map[string]map[string]string

func reflected(t *testing.T) described {
	t.Helper()
	all := described{}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() {
			return
		}
		if _, seen := all[typ.Name()]; seen {
			return
		}
		fields := map[string]string{}
		all[typ.Name()] = fields
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" {
				t.Errorf("%s.%s has no JSON name", typ.Name(), f.Name)
				continue
			}
			word := typeWord(t, f.Type)
			if strings.Contains(options, "omit") {
				word += ", optional"
			}
			fields[name] = word
			visit(f.Type)
		}
	}
	for _, d := range documents() {
		visit(reflect.TypeOf(d))
	}
	return all
}

func typeWord(t *testing.T, typ reflect.Type) string {
	t.Helper()
	switch typ {
	case reflect.TypeFor[time.Time]():
		return "time"
	case reflect.TypeFor[health.Micros]():
		return "microseconds"
	case reflect.TypeFor[health.Verdict]():
		return "string"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return typeWord(t, typ.Elem()) + " or null"
	case reflect.Slice:
		return "list of " + typeWord(t, typ.Elem())
	case reflect.Struct:
		return typ.Name()
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	}
	t.Errorf("no word for %s", typ)
	return ""
}

var (
	typeHeading = regexp.MustCompile(`^### (\w+)$`)
	fieldRow    = regexp.MustCompile("^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\|$")
)

func TestJSONIsDocumented(t *testing.T) {
	content, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := described{}
	current := ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\n")
		if m := typeHeading.FindStringSubmatch(line); m != nil {
			current = m[1]
			documented[current] = map[string]string{}
		}
		if m := fieldRow.FindStringSubmatch(line); m != nil {
			if current == "" {
				t.Fatalf("a row before any type: %s", line)
			}
			documented[current][m[1]] = strings.TrimSpace(m[2])
			if strings.TrimSpace(m[3]) == "" {
				t.Errorf("%s.%s has no meaning", current, m[1])
			}
		}
	}
	if diff := cmp.Diff(reflected(t), documented); diff != "" {
		t.Errorf("structs (-) and docs/json.md (+) differ:\n%s", diff)
	}
}

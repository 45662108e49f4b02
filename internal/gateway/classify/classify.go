// Package classify reads what the openshell command line prints. It is pure: text
// in, a word out, and nothing here could ask a gateway anything. Text is never
// proof of life (the command prints its table headings for a dead gateway, too);
// it only selects which gateway to probe.
package classify

import (
	"regexp"
	"strings"
)

// Reuse says what the text makes of a gateway, in the words that
// users of earlier tools know.
type Reuse string

// The states, in the order in which they are tested.
const (
	Healthy       Reuse = "healthy"        // to be probed: the text has nothing against it
	ActiveUnnamed Reuse = "active-unnamed" // an active gateway of which no metadata is kept under our name
	ForeignActive Reuse = "foreign-active" // another gateway is active: never reused, never touched
	Stale         Reuse = "stale"          // ours is known, and nothing answers
	Missing       Reuse = "missing"
)

// Outputs are what three commands printed; what was not printed is empty.
type Outputs struct {
	Status string // openshell status
	Named  string // openshell gateway info -g NAME
	Active string // openshell gateway info
}

// escapes are the ANSI sequences: CSI, OSC with either end, and the two- and
// three-byte ones.
var escapes = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -/]+[0-~]|[0-Z\\\\^-~])|\u009b[0-?]*[ -/]*[@-~]")

// Plain removes ANSI sequences, and carriage returns before line ends.
func Plain(text string) string {
	return strings.ReplaceAll(escapes.ReplaceAllString(text, ""), "\r\n", "\n")
}

var reported = regexp.MustCompile(`(?m)^[ \t]*Gateway:[ \t]+(\S+)`)

// ReportedName is the gateway that a text speaks of, from its first line
// "Gateway: NAME"; empty when there is none.
func ReportedName(text string) string {
	m := reported.FindStringSubmatch(Plain(text))
	if m == nil {
		return ""
	}
	return m[1]
}

// troubles are words that stand in no answer of a gateway that is connected. The
// heading "Server Status" stands in every answer.
var troubles = regexp.MustCompile(`(?i:\berror\b)|Connection refused|Connection reset|No active gateway`)

// Connected reports whether `openshell status` says that a gateway answered.
func Connected(status string) bool {
	status = Plain(status)
	// "Disconnected" does not hold "Connected": the search is by case.
	return (strings.Contains(status, "Connected") || strings.Contains(status, "Server Status")) && !troubles.MatchString(status)
}

const noMetadata = "No gateway metadata found"

// NamedKnown reports whether `openshell gateway info -g NAME` knows that gateway.
func NamedKnown(info, name string) bool {
	return name != "" && ReportedName(info) == name && !strings.Contains(Plain(info), noMetadata)
}

// ActiveEndpoint reports whether `openshell gateway info` tells of an endpoint.
func ActiveEndpoint(info string) bool {
	info = Plain(info)
	return strings.Contains(info, "Gateway endpoint:") && !strings.Contains(info, noMetadata)
}

// ActiveName is the active gateway's name: what the status says, else the
// information on the active one.
func (o Outputs) ActiveName() string {
	if name := ReportedName(o.Status); name != "" {
		return name
	}
	return ReportedName(o.Active)
}

// TextHealthy reports whether the text has nothing against the gateway called
// name. It selects what is probed and proves nothing.
func (o Outputs) TextHealthy(name string) bool {
	if name == "" || o.ActiveName() != name {
		return false
	}
	if Connected(o.Status) {
		return true
	}
	return blank(o.Status) && NamedKnown(o.Named, name) && ActiveEndpoint(o.Active)
}

// Judge says what the gateway called name could be used for.
func (o Outputs) Judge(name string) Reuse {
	known, active := NamedKnown(o.Named, name), o.ActiveName()
	connected, endpoint := Connected(o.Status), ActiveEndpoint(o.Active)
	foreign := active != "" && active != name && (connected || endpoint)
	switch {
	case o.TextHealthy(name) && known:
		return Healthy
	case connected && active == name, !known && endpoint && !foreign:
		return ActiveUnnamed
	case foreign:
		return ForeignActive
	case known:
		return Stale
	}
	return Missing
}

func blank(text string) bool { return strings.TrimSpace(Plain(text)) == "" }

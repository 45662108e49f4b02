package console

import (
	"fmt"
	"strings"

	"creel/internal/sandbox"
)

// maxContext bounds the text that goes to the model with a question, in bytes:
// about 16,000 tokens, which every model in use takes.
const maxContext = 64 << 10

// turns is what the model gets: who it is, then the newest exchanges that fit,
// the question last. Exchanges that failed without a word are left out.
func turns(s settings, entries []entry) []message {
	silent := map[string]bool{}
	for _, e := range entries {
		if e.Role == roleAssistant && e.Text == "" {
			silent[e.ID] = true
		}
	}
	var kept []message
	bytes := 0
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if silent[e.ID] {
			continue
		}
		bytes += len(e.Text)
		if bytes > maxContext && len(kept) > 0 {
			break
		}
		kept = append(kept, message{Role: e.Role, Content: e.Text})
	}
	// An answer without its question would come first.
	for len(kept) > 1 && kept[len(kept)-1].Role != roleUser {
		kept = kept[:len(kept)-1]
	}
	out := []message{{Role: "system", Content: introduction(s)}}
	for i := len(kept) - 1; i >= 0; i-- {
		out = append(out, kept[i])
	}
	return out
}

// introduction tells the model where it runs, so that it answers truthfully when
// asked.
func introduction(s settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "You are the assistant in the Creel console, a chat page inside the sandbox %q. ", s.sandbox)
	b.WriteString("You can only talk: you have no tools, cannot run commands, read files or open network connections. ")
	b.WriteString("Answer in Markdown, to the point. Put code in fenced blocks with the language named.\n\n")
	b.WriteString("How this sandbox is confined, to be used only when asked about it: ")
	switch s.confinement.Tier {
	case sandbox.TierNamespaces:
		b.WriteString("tier namespaces, everything in force. ")
	case "":
		b.WriteString("not known. ")
	default:
		fmt.Fprintf(&b, "tier %s (%s). ", s.confinement.Tier, s.confinement.Reason)
	}
	for _, p := range s.confinement.Protections {
		word := "off"
		if p.On {
			word = "on"
		}
		fmt.Fprintf(&b, "%s: %s (%s). ", p.Name, word, p.Detail)
	}
	b.WriteString("The only way out is the inference relay, which adds the provider's credential outside; nothing in here holds it.")
	return b.String()
}

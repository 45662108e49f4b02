package ui

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"creel/internal/advisory"
	"creel/internal/credential"
)

// Problem prints an error: what was being done and why it did not work, the
// advisory's code with title and reason, and what to do next.
//
//	error: start gateway: listen on 127.0.0.1:17670: address already in use
//	gateway-port-taken: another program holds the port
//	  The port is in use and was asked for explicitly.
//	next:
//	  creel onboard --gateway-port PORT
func (s Streams) Problem(err error) {
	if err == nil {
		return
	}
	t := s.ErrTerminal
	fmt.Fprintf(s.Err, "%s %s\n", t.paint(bold+red, "error:"), credential.Redact(indented(err.Error())))
	for _, p := range problems(err) {
		a, known := advisory.Lookup(p.ID)
		if !known {
			fmt.Fprintf(s.Err, "%s\n", t.Bold(p.ID))
			continue
		}
		fmt.Fprintf(s.Err, "%s: %s\n", t.Bold(a.ID), a.Title)
		if a.Reason != "" {
			for _, line := range Wrap(a.Reason, max(0, t.Columns()-len("  "))) {
				fmt.Fprintf(s.Err, "  %s\n", line)
			}
		}
	}
	s.Next(Commands(err)...)
}

// Next prints runnable commands under "next:".
func (s Streams) Next(commands ...string) {
	if len(commands) == 0 {
		return
	}
	fmt.Fprintln(s.Err, s.ErrTerminal.Bold("next:"))
	for _, c := range commands {
		fmt.Fprintf(s.Err, "  %s\n", credential.Redact(About(Naming(c, s.Sandbox), s.Gateway)))
	}
}

// About makes a command of Creel's mean a gateway, where it names none; an empty one
// changes nothing.
func About(command, gateway string) string {
	if gateway == "" || !strings.Contains(" "+command, " creel ") || strings.Contains(command, "--gateway ") {
		return command
	}
	before, after, more := strings.Cut(command, " -- ")
	if before += " --gateway " + gateway; more {
		before += " -- " + after
	}
	return before
}

// Naming puts a sandbox's name into a command where the word SANDBOX stands for it;
// an empty one changes nothing.
func Naming(command, sandbox string) string {
	if sandbox == "" {
		return command
	}
	words := strings.Split(command, " ")
	for i, w := range words {
		if w == "SANDBOX" {
			words[i] = advisory.Quote(sandbox)
		}
	}
	return strings.Join(words, " ")
}

// Commands are the next steps of every advisory in err's tree, without
// repetition.
func Commands(err error) []string {
	var commands []string
	for _, p := range problems(err) {
		for _, c := range p.Commands() {
			if !slices.Contains(commands, c) {
				commands = append(commands, c)
			}
		}
	}
	return commands
}

// problems returns the outermost advisory of each branch of err's tree, each id
// once: what a problem wraps explains it and is not a problem of its own.
func problems(err error) []*advisory.Problem {
	var found []*advisory.Problem
	var visit func(error)
	visit = func(err error) {
		switch e := err.(type) {
		case nil:
		case *advisory.Problem:
			if !slices.ContainsFunc(found, func(p *advisory.Problem) bool { return p.ID == e.ID }) {
				found = append(found, e)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				visit(inner)
			}
		default:
			visit(errors.Unwrap(err))
		}
	}
	visit(err)
	return found
}

// indented keeps the lines of an error that shows source, or of joined errors,
// below "error:".
func indented(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ")
}

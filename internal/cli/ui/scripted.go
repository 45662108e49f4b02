package ui

import (
	"context"
	"fmt"

	"creel/internal/credential"
)

// Scripted is a Prompter whose answers are known beforehand: for tests. A
// question without an answer is an error, so that a surprising prompt fails.
type Scripted struct {
	Answers []Answer
	Asked   []string // the questions, in order
}

// Answer replies to one question.
type Answer struct {
	Question string // the question expected; empty accepts any
	Reply    string // "yes" confirms
	Err      error
}

func (s *Scripted) next(question string) (string, error) {
	s.Asked = append(s.Asked, question)
	if len(s.Answers) == 0 {
		return "", fmt.Errorf("nobody expected the question %q", question)
	}
	a := s.Answers[0]
	s.Answers = s.Answers[1:]
	if a.Question != "" && a.Question != question {
		return "", fmt.Errorf("asked %q, expected %q", question, a.Question)
	}
	return a.Reply, a.Err
}

// Confirm implements Prompter.
func (s *Scripted) Confirm(_ context.Context, question string, _ bool) (bool, error) {
	reply, err := s.next(question)
	return reply == "yes", err
}

// Choose implements Prompter and refuses an answer that was not offered.
func (s *Scripted) Choose(_ context.Context, question string, choices []Choice, _ string) (string, error) {
	reply, err := s.next(question)
	if err != nil {
		return "", err
	}
	for _, c := range choices {
		if c.Value == reply {
			return reply, nil
		}
	}
	return "", fmt.Errorf("%q was not offered by %q", reply, question)
}

// Text implements Prompter and refuses an answer that check refuses.
func (s *Scripted) Text(_ context.Context, question, _ string, check func(string) error) (string, error) {
	reply, err := s.next(question)
	if err == nil && check != nil {
		err = check(reply)
	}
	return reply, err
}

// Secret implements Prompter.
func (s *Scripted) Secret(_ context.Context, question string) (credential.Secret, error) {
	reply, err := s.next(question)
	return credential.NewSecret(reply), err
}

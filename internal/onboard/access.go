package onboard

import (
	"creel/internal/advisory"
	"creel/internal/desired"
)

// access settles how the dashboard is reached. An empty flag takes back what is
// recorded.
func (s settling) access(board *desired.Dashboard) error {
	for _, question := range []struct {
		key Key
		set func(string) error
	}{{DashboardBind, board.SetBind}, {PublicURL, board.SetPublicURL}, {TrustedProxies, board.SetTrustedProxies}} {
		value, from := s.given(question.key)
		if _, flag := s.Flags[question.key]; value == "" && !flag {
			continue
		}
		if err := question.set(value); err != nil {
			if p, ok := advisory.Of(err); ok {
				return advisory.New(p.ID, from, err)
			}
			return invalid(from, err)
		}
	}
	return nil
}

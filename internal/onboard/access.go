package onboard

import (
	"creel/internal/advisory"
	"creel/internal/dashboard"
	"creel/internal/desired"
)

// access settles how the dashboard is reached. An empty flag takes back what is
// recorded.
func (s settling) access(board *desired.Dashboard, runtime string) error {
	given := *board
	for _, question := range []struct {
		key     Key
		set     func(string) error
		example string
	}{
		{DashboardBind, given.SetBind, dashboard.Loopback},
		{PublicURL, given.SetPublicURL, "https://agent.example"},
		{TrustedProxies, given.SetTrustedProxies, dashboard.Loopback},
	} {
		value, from := s.given(question.key)
		_, flag := s.Flags[question.key]
		if value == "" && !flag {
			continue
		}
		err := question.set(value)
		if question.key == DashboardBind && !flag {
			err = dashboard.CheckWide(value)
		}
		if p, ok := advisory.Of(err); ok {
			return advisory.New(p.ID, from, err, "creel onboard --"+string(question.key)+" "+question.example)
		}
		if err != nil {
			return invalid(from, err)
		}
		// A variable may be set for another gateway, a flag is meant.
		if flag || runtime == desired.Embedded {
			*board = given
		} else {
			given = *board
		}
	}
	return nil
}

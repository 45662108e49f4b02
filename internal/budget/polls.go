package budget

import (
	"fmt"
	"runtime"
	"strconv"
	"time"
)

// Polls are two variables by which earlier tools say how long to wait: how often
// to look, and how many seconds apart. Here that is a limit of the one times the
// other; how often is looked is nobody's affair.
type Polls struct {
	Count, Interval string // the variables' names
	Times           int
	Every           time.Duration
}

// Polls are those of a budget; zero where there are none.
func (n Name) Polls() Polls {
	switch n {
	case ContainerStart:
		p := Polls{"NEMOCLAW_HEALTH_POLL_COUNT", "NEMOCLAW_HEALTH_POLL_INTERVAL", 12, 5 * time.Second}
		if runtime.GOARCH == "arm64" { // mostly small machines, on which a cluster is slow to come up
			p.Times, p.Every = 30, 10*time.Second
		}
		return p
	case ContainerSettle:
		return Polls{"NEMOCLAW_REUSE_HEALTH_POLL_COUNT", "NEMOCLAW_REUSE_HEALTH_POLL_INTERVAL", 6, 5 * time.Second}
	}
	return Polls{}
}

func (p Polls) byDefault() time.Duration { return time.Duration(p.Times) * p.Every }

// limit is what the variables come to, and whether one of them is set.
func (p Polls) limit(getenv func(string) string) (d time.Duration, given bool, err error) {
	times, every := uint64(p.Times), uint64(p.Every/time.Second)
	for name, to := range map[string]*uint64{p.Count: &times, p.Interval: &every} {
		if name == "" {
			continue
		}
		s := getenv(name)
		if s == "" {
			continue
		}
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			what := "number of looks"
			if name == p.Interval {
				what = "number of seconds"
			}
			return 0, true, fmt.Errorf("%s=%q is not a %s from 1 to 65535", name, s, what)
		}
		*to, given = n, true
	}
	return time.Duration(times*every) * time.Second, given, nil
}

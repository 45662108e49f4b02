package layer

import (
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/health"
)

func ok(format string, args ...any) health.Result {
	return health.Result{Verdict: health.OK, Message: fmt.Sprintf(format, args...), At: time.Now()}
}

func failed(reason, format string, args ...any) health.Result {
	return withHints(health.Result{Verdict: health.Failed, Reason: reason, Message: fmt.Sprintf(format, args...), At: time.Now()})
}

func unknown(reason string, err error) health.Result {
	r := health.Result{Verdict: health.Unknown, Reason: reason, Message: err.Error(), At: time.Now()}
	if p, found := advisory.Of(err); found {
		r.Reason, r.Hints = p.ID, p.Commands()
	}
	return withHints(r)
}

// withHints adds the advisory's commands where there are no better ones.
func withHints(r health.Result) health.Result {
	if len(r.Hints) == 0 {
		a, _ := advisory.Lookup(r.Reason)
		r.Hints = a.Commands
	}
	return r
}

// blocked reports that found says nothing about this layer itself.
func blocked(found health.Result) bool { return found.BlockedBy != "" }

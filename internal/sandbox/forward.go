package sandbox

import (
	"fmt"

	"creel/internal/dashboard"
)

// MaxForwards is how many forwards a sandbox can have.
const MaxForwards = 32

// Forward is a listener of the gateway for a port inside the sandbox.
type Forward struct {
	Bind string `json:"bind"` // dashboard.Loopback or dashboard.Everybody
	// Port is the listener's; only that one will do. 0 is any, which the sandbox then
	// keeps.
	Port       int `json:"port"`
	TargetPort int `json:"target_port"` // inside the sandbox
}

// CheckForwards reports forwards that cannot be meant together, beside a dashboard.
func CheckForwards(d Dashboard, all []Forward) error {
	if len(all) > MaxForwards {
		return fmt.Errorf("%d forwards, at most %d are possible", len(all), MaxForwards)
	}
	ports, targets := map[int]bool{}, map[int]bool{}
	if d.TargetPort != 0 && d.Port != 0 {
		ports[d.Port] = true
	}
	for _, f := range all {
		if err := dashboard.CheckBind(f.Bind); err != nil {
			return err
		}
		switch {
		case f.TargetPort < 1 || f.TargetPort > 65535:
			return fmt.Errorf("a forward's target port %d is not between 1 and 65535", f.TargetPort)
		case f.Port < 0 || f.Port > 65535:
			return fmt.Errorf("a forward's port %d is not between 1 and 65535", f.Port)
		case f.TargetPort == d.TargetPort:
			return fmt.Errorf("target port %d is the dashboard's: its listener is the dashboard's own", f.TargetPort)
		case f.Port != 0 && ports[f.Port]:
			return fmt.Errorf("port %d is wanted twice", f.Port)
		case f.Port == 0 && targets[f.TargetPort]:
			return fmt.Errorf("target port %d is forwarded twice from any port", f.TargetPort)
		}
		if f.Port == 0 {
			targets[f.TargetPort] = true
		}
		ports[f.Port] = true
	}
	return nil
}

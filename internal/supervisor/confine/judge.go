package confine

import (
	"fmt"
	"strings"

	"creel/internal/advisory"
	"creel/internal/sandbox"
)

// judge turns what a first process observed into what is reported, and refuses a
// Box in which a protection that its tier needs is not in force. outside are the
// namespaces of the supervisor; own says that the programs are a user of their
// own outside.
func judge(o observed, outside map[string]string, reason string, own bool) (sandbox.Confinement, error) {
	c := sandbox.Confinement{Tier: o.Tier, Reason: reason}
	var missing []string
	add := func(name string, on, needed bool, detail string) {
		c.Protections = append(c.Protections, sandbox.Protection{Name: name, On: on, Detail: detail})
		if needed && !on {
			missing = append(missing, name+" ("+detail+")")
		}
	}
	namespaces, confined := o.Tier == sandbox.TierNamespaces, o.Tier != sandbox.TierUnconfined
	names := map[string]string{"user": "user namespace", "mnt": "mount namespace", "pid": "process namespace",
		"net": "network namespace", "ipc": "IPC namespace", "uts": "host name namespace"}
	for _, n := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		inside := o.Namespaces[n]
		on := inside != "" && outside[n] != "" && inside != outside[n]
		detail := inside
		if !on {
			detail = "shared with the host"
		}
		add(names[n], on, namespaces, detail)
	}
	files := o.Denied[trialFile] != ""
	landlock := "not applied"
	if o.LandlockABI > 0 && confined {
		landlock = fmt.Sprintf("ABI %d, reading outside the rules: %s", o.LandlockABI, orNot(o.Denied[trialFile]))
	}
	add("landlock files", files, confined, landlock)
	if !namespaces {
		network := "not applied"
		if confined {
			network = "connecting outside the rules: " + orNot(o.Denied[trialConnect])
		}
		add("landlock network", o.Denied[trialConnect] != "", confined, network)
		scoped := confined && o.LandlockABI >= 6
		detail := "programs cannot signal others or use their abstract sockets"
		if !scoped {
			detail = "programs can signal other processes of their user"
		}
		add("landlock scopes", scoped, false, detail)
	}
	add("seccomp", o.Status["Seccomp"] == "2" && o.Denied[trialCall] != "", confined,
		"mode "+o.Status["Seccomp"]+", filtered call: "+orNot(o.Denied[trialCall]))
	add("no new privileges", o.Status["NoNewPrivs"] == "1", true, "no_new_privs "+o.Status["NoNewPrivs"])
	none := true
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		none = none && zero(o.Status[set])
	}
	add("no capabilities", none, true, "effective "+o.Status["CapEff"])
	add("empty bounding set", zero(o.Status["CapBnd"]), namespaces, "bounding "+o.Status["CapBnd"])
	user := fmt.Sprintf("uid %d inside", o.UID)
	if !own {
		user += ", the caller outside"
	}
	add("user of its own", own, false, user)
	if len(missing) > 0 {
		return c, advisory.New("confinement-failed", "not in force after it was applied: "+strings.Join(missing, ", "), nil)
	}
	return c, nil
}

func orNot(refusal string) string {
	if refusal == "" {
		return "not refused"
	}
	return refusal
}

func zero(mask string) bool { return mask != "" && strings.Trim(mask, "0") == "" }

// uncovered is what the tiers below namespaces do not cover, for Reason.
func uncovered(t sandbox.Tier) string {
	switch t {
	case sandbox.TierLandlock:
		return "not covered: the names of the host's files and processes are visible, modes and times of the user's own files can be changed, the network is shared and connections to the number of the relay's port are possible on every address, terminals cannot be opened by programs, and a program that hides its origin can outlive a killed supervisor"
	case sandbox.TierUnconfined:
		return "not covered: anything the user can reach"
	}
	return ""
}

package confine

import (
	"encoding/json"
	"syscall"

	"creel/internal/sandbox"
)

// The supervisor and the first process of a Box exchange one JSON document a
// datagram; descriptors travel beside it.

// maxMessage bounds one datagram: the kernel's default socket buffer holds it. A
// request that is larger, up to maxRequest, travels in a file beside it.
const (
	maxMessage = 192 << 10
	maxRequest = 16 << 20
)

type operation string

const (
	opSpawn  operation = "spawn"
	opSignal operation = "signal"
	opListen operation = "listen"
	opDial   operation = "dial"
)

// request is what the supervisor asks.
type request struct {
	ID      uint64         `json:"id"`
	Op      operation      `json:"op"`
	Command Command        `json:"command,omitzero"` // spawn; with three descriptors
	Process uint64         `json:"process,omitzero"` // signal: ID of the spawn
	Signal  syscall.Signal `json:"signal,omitzero"`
	Port    int            `json:"port,omitzero"` // listen, dial
	// Filed: this is not the request; it is in the last descriptor's file.
	Filed bool `json:"filed,omitzero"`
}

// event is what the first process says: the answer to request ID, the end of the
// process that request ID spawned, or (ID 0) that it is ready or gave up.
type event struct {
	ID    uint64 `json:"id"`
	PID   int    `json:"pid,omitzero"`  // spawn; with a pidfd and maybe a terminal
	TTY   bool   `json:"tty,omitzero"`  // spawn: the second descriptor is the terminal
	Exit  bool   `json:"exit,omitzero"` // the process ended
	Code  int    `json:"code,omitzero"`
	Sig   int    `json:"signal,omitzero"`
	Error string `json:"error,omitzero"`
	// Errno is the system's error number behind Error, 0 without one.
	Errno    syscall.Errno `json:"errno,omitzero"`
	Done     bool          `json:"done,omitzero"`     // signal: it had ended
	Advisory string        `json:"advisory,omitzero"` // giving up
	Ready    *observed     `json:"ready,omitzero"`
}

// observed is what the first process found in force about itself.
type observed struct {
	// Status holds NoNewPrivs, Seccomp, CapEff, CapBnd, … of /proc/self/status.
	Status map[string]string `json:"status"`
	// Namespaces are the identities of its namespaces, by name: "user", "mnt", …
	Namespaces map[string]string `json:"namespaces"`
	UID        int               `json:"uid"`
	// LandlockABI is the ABI of the rules, 0 when none were applied.
	LandlockABI int `json:"landlock_abi"`
	// Denied says for each trial that has to fail what it answered; empty is a
	// success and means that the protection is not in force.
	Denied  map[string]string `json:"denied"`
	Setback map[string]string `json:"setback"` // protections that could not be applied, and why
	// Tier is what the profile asked for after Choose.
	Tier sandbox.Tier `json:"tier"`
}

// trials of observed.Denied.
const (
	trialFile    = "read a file without a rule"
	trialConnect = "connect to a port without a rule"
	trialCall    = "a filtered system call"
)

func decodeRequest(b []byte) (request, error) {
	var r request
	err := json.Unmarshal(b, &r)
	return r, err
}

func decodeEvent(b []byte) (event, error) {
	var e event
	err := json.Unmarshal(b, &e)
	return e, err
}

package service

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"creel/internal/state"
	"creel/internal/systemd"
)

// What a unit file of Creel's begins and ends with. The last line is a hash of
// everything before it: who changes the file makes it their own.
const (
	writtenBy = "# Written by creel for gateway "
	sealedBy  = "# sha256:"
)

// header is the first line: for which gateway, in which state directory.
func header(g state.Gateway) string {
	return writtenBy + systemd.Quote(g.Name) + " in " + systemd.Quote(g.Roots.State)
}

// Text is the unit file of the gateway. What is in it must let the gateway do its
// work, which is to start supervisors that build sandboxes:
//
//   - Stopping, restarting or losing the gateway ends its main process and nothing
//     else (KillMode, OOMPolicy): supervisors are its children, and theirs are the
//     sandboxes.
//   - It is hardened with what a sandbox is denied anyway, or does not notice.
//     Whatever gives the unit a view of the file system of its own, restricts
//     namespaces or file modes would reach into sandboxes or keep them from being
//     made: those stay off.
func Text(g state.Gateway, m *systemd.Manager, program string, environment []string) string {
	unit := UnitName(g.Name)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s", header(g))
	line("# It is removed by: creel gateway uninstall-service --gateway %s", g.Name)
	line("# Settings of your own belong into a drop-in: %s", m.Command("edit", unit))
	line("")
	line("[Unit]")
	line("Description=Creel gateway %s", systemd.Text(g.Name))
	line("# Tried again for a few minutes, then left for a person to look at.")
	line("StartLimitIntervalSec=15min")
	line("StartLimitBurst=100")
	if m.System {
		line("RequiresMountsFor=%s", systemd.Quote(g.Roots.State))
	}
	line("")
	line("[Service]")
	line("# Ready, and alive, is what the gateway says after it asked itself over its own endpoint.")
	line("Type=notify")
	line("NotifyAccess=main")
	line("WatchdogSec=60s")
	line("ExecStart=%s gateway serve --gateway %s", systemd.Quote(program), systemd.QuoteArgument(g.Name))
	for _, e := range environment {
		line("Environment=%s", systemd.Quote(e))
	}
	line("WorkingDirectory=/")
	line("Restart=on-failure")
	line("RestartSec=1s")
	line("TimeoutStartSec=60s")
	line("TimeoutStopSec=20s")
	line("")
	line("# Sandboxes go on without their gateway: only the main process is ever ended, whatever")
	line("# happens to another one.")
	line("KillMode=process")
	line("OOMPolicy=continue")
	line("TasksMax=infinity")
	line("")
	line("# What no sandbox may do either, or would not notice.")
	line("NoNewPrivileges=yes")
	line("RestrictRealtime=yes")
	line("SystemCallFilter=~@module @raw-io @reboot @swap")
	line("SystemCallErrorNumber=EPERM")
	if m.System {
		line("CapabilityBoundingSet=~CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_BLOCK_SUSPEND CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYSLOG CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_PACCT CAP_SYS_RAWIO CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_WAKE_ALARM")
		line("DevicePolicy=closed")
	}
	line("")
	line("[Install]")
	if m.System {
		line("WantedBy=multi-user.target")
	} else {
		line("WantedBy=default.target")
	}
	return seal(b.String())
}

func seal(text string) string {
	sum := sha256.Sum256([]byte(text))
	return text + sealedBy + hex.EncodeToString(sum[:]) + "\n"
}

// judgeText says whose a unit file's content is.
func judgeText(text string, g state.Gateway) origin {
	first, _, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(first, writtenBy) {
		return foreign
	}
	body, _, sealed := cutLast(text, sealedBy)
	switch {
	case !sealed || seal(body) != text:
		return edited
	case first != header(g):
		return another
	}
	return ours
}

// cutLast cuts at the last line that begins with prefix.
func cutLast(text, prefix string) (before, after string, found bool) {
	i := strings.LastIndex(text, "\n"+prefix)
	if i < 0 {
		return text, "", false
	}
	return text[:i+1], text[i+1+len(prefix):], true
}

// writtenFor is the first line of a unit file of Creel's, for a person to read.
func writtenFor(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return strings.TrimPrefix(first, "# ")
}

package supervisor

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// region is one mapping of a file in this process's memory.
type region struct {
	from, to  uintptr
	writable  bool
	anonymous bool // some of it is no longer what the file holds
}

// releaseProgram gives back the pages of this executable that only the start
// needed: the kernel maps many around each one that is used, and a supervisor
// waits for most of its life. What is needed again is mapped again, from memory
// that all processes of this executable share.
func releaseProgram() error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	for _, r := range regions(smaps, path) {
		if r.writable || r.anonymous {
			continue // dropping would undo what was written
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.from, r.to-r.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("release pages of the program: %w", errno)
		}
	}
	return nil
}

// regions lists the mappings of the file at path in the text of smaps (see
// proc(5)). A mapping of which it is not said that nothing of it is anonymous
// counts as if something were.
func regions(smaps []byte, path string) []region {
	var found []region
	var current *region
	for line := range bytes.Lines(smaps) {
		fields := bytes.Fields(line)
		var from, to uintptr
		if len(fields) > 1 {
			if n, err := fmt.Sscanf(string(fields[0]), "%x-%x", &from, &to); err == nil && n == 2 && len(fields[1]) == 4 && to > from {
				if current = nil; len(fields) == 6 && string(fields[5]) == path {
					found = append(found, region{from: from, to: to, writable: fields[1][1] != '-', anonymous: true})
					current = &found[len(found)-1]
				}
				continue
			}
		}
		if current != nil && len(fields) == 3 && string(fields[0]) == "Anonymous:" {
			current.anonymous = string(fields[1]) != "0"
		}
	}
	return found
}

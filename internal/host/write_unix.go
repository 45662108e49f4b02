//go:build unix

package host

import (
	"errors"
	"os"
)

func tryTemporary(dir string) error {
	f, err := os.CreateTemp(dir, ".creel-writable-")
	if err != nil {
		return err
	}
	return errors.Join(writeBlock(f), f.Close(), os.Remove(f.Name()))
}

// writeBlock writes enough that a full disk shows: an empty file would fit.
func writeBlock(f *os.File) error {
	_, err := f.Write(make([]byte, 4096))
	return err
}

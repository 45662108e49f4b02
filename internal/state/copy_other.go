//go:build !linux

package state

import (
	"errors"
	"os"
)

func reflink(*os.File, *os.File) error { return errors.ErrUnsupported }

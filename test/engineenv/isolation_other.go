//go:build !linux

package engineenv

import (
	"errors"
	"syscall"
)

func isolation() (*syscall.SysProcAttr, error) {
	return nil, errors.New("container engines for tests need Linux")
}

//go:build !linux

package kubeenv

import (
	"errors"
	"syscall"
)

func dieWithParent() *syscall.SysProcAttr { return nil }

type port struct{ number int }

func reservePort() (*port, error) { return nil, errors.New("clusters for tests need Linux") }

func (p *port) release() {}

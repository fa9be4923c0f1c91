//go:build !linux

package path

import (
	"context"
	"net/netip"
)

// Supported returns ErrUnsupported where a path cannot be traced.
func Supported() error { return ErrUnsupported }

// run cannot be reached: Trace asks Supported first.
func (t *Tracer) run(context.Context, netip.Addr, *walk) error { return ErrUnsupported }

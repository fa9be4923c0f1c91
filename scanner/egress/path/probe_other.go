//go:build !linux

package path

import (
	"context"
	"net/netip"
)

func supported() error { return ErrUnsupported }

// run cannot be reached: Trace asks supported first.
func (t *Tracer) run(context.Context, netip.Addr, *walk) error { return ErrUnsupported }

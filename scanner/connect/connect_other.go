//go:build !linux

package connect

import "context"

// native says whether there is an engine of its own for this system.
const native = false

func (r *run) scanNative(ctx context.Context) error { return r.scanPortable(ctx) }

// linearTimeouts returns how many repetitions of a SYN come one second after
// another. Not known here, so the earliest schedule is taken for granted.
func linearTimeouts() int { return 4 }

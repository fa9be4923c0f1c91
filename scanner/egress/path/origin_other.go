//go:build !linux

package path

// newDialler says that error queues, and the least TTL of what a socket takes, are Linux's.
func newDialler(Refusal) (dialler, error) { return nil, ErrUnsupported }

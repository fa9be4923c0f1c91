//go:build !linux

package lab

import "testing"

// A Lab is the network of a test; it exists on Linux only.
type Lab struct{ cfg Config }

// Main runs the tests.
func Main(m *testing.M) int { return m.Run() }

// Run skips the test: network namespaces are Linux's.
func Run(t *testing.T, _ Config, _ func(t *testing.T, l *Lab)) {
	t.Helper()
	t.Skip("the lab needs Linux network namespaces: run this test on Linux")
}

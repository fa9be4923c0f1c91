//go:build !linux

package journal

import "os"

// dataSync brings the file to the disk.
func dataSync(f *os.File) error { return f.Sync() }

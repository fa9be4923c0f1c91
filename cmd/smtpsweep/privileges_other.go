//go:build !linux

package main

import "os"

// dropPrivileges does nothing but on Linux: the far end keeps the user that it was
// started as.
func dropPrivileges(string) (words string, err error) {
	if os.Geteuid() == 0 {
		return "stays root, because it gives that up on Linux only", nil
	}
	return "keeps its user", nil
}

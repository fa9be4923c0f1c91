package main

import (
	"net/netip"
	"slices"
	"syscall"
)

// onlyBroadcast returns the first and last addresses of networks that are
// broadcast addresses to the kernel. The first one was, too, before Linux 5.14.
func onlyBroadcast(ends []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(ends, func(a netip.Addr) bool { return !isBroadcast(a) })
}

// isBroadcast asks the kernel by connecting a UDP socket, which sends nothing:
// to a broadcast address it may not be, without SO_BROADCAST (ip(7), EACCES). A
// socket is asked once: it keeps the source address that it got.
func isBroadcast(a netip.Addr) bool {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	return syscall.Connect(fd, &syscall.SockaddrInet4{Port: 9, Addr: a.As4()}) == syscall.EACCES
}

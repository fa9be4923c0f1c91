package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const spliceFunc = "lab.splice"

var _ = Register(spliceFunc, splice)

// splice is a transparent proxy on a port: see Path.Splice.
func splice(ctx context.Context, args []string) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+args[0])
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	Ready()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return ctx.Err()
		}
		wg.Go(func() {
			defer conn.Close()
			if err := spliceOne(ctx, conn.(*net.TCPConn)); err != nil {
				fmt.Println(err)
			}
		})
	}
}

// spliceOne joins one connection with the one that it was to be.
func spliceOne(ctx context.Context, in *net.TCPConn) error {
	dest, err := OriginalDst(in)
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", dest.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	out := conn.(*net.TCPConn)
	defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()
	var wg sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{in, out}, {out, in}} {
		wg.Go(func() {
			io.Copy(way[1], way[0])
			way[1].CloseWrite()
		})
	}
	wg.Wait()
	return nil
}

// OriginalDst returns where a connection was to go before a rule redirected it
// (SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST; Linux netfilter_ipv4.h).
func OriginalDst(conn *net.TCPConn) (dest netip.AddrPort, err error) {
	const soOriginalDst = 80
	raw, err := conn.SyscallConn()
	if err != nil {
		return dest, err
	}
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return dest, err
	}
	level := unix.SOL_IP
	if local.Addr().Unmap().Is6() {
		level = unix.SOL_IPV6
	}
	var sa [unix.SizeofSockaddrInet6]byte
	size := uint32(len(sa))
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), soOriginalDst,
			uintptr(unsafe.Pointer(&sa[0])), uintptr(unsafe.Pointer(&size)), 0)
	})
	switch {
	case err != nil:
		return dest, err
	case errno != 0:
		return dest, fmt.Errorf("original destination of a connection from %s: %w", conn.RemoteAddr(), errno)
	}
	port := uint16(sa[2])<<8 | uint16(sa[3])
	if level == unix.SOL_IP {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa[4:8])), port), nil
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(sa[8:24])), port), nil
}

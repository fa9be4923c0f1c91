package connect

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A Conn is an established connection that an Engine handed over. Whoever
// received it closes it, once its conversation is over; until then it counts
// against the limits of host and machine. It implements net.Conn.
type Conn struct {
	stream        stream
	local, remote net.TCPAddr
	peeked        []byte // read by the engine already
	reset         bool   // the peer reset the connection, and the engine saw the error
	closed        atomic.Bool
	done          func() // gives back what the connection held
}

// A stream is the part of a connection that *os.File and *net.TCPConn share.
type stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	SetLinger(seconds int) error
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.peeked) > 0 && len(b) > 0 {
		n := copy(b, c.peeked)
		c.peeked = c.peeked[n:]
		return n, nil
	}
	n, err := c.stream.Read(b)
	if c.reset && n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, fs.ErrClosed) {
		err = syscall.ECONNRESET
	}
	return n, c.wrap("read", err)
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.stream.Write(b)
	return n, c.wrap("write", err)
}

// Close closes the connection and gives back what it held. A second Close does nothing.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	err := c.stream.Close()
	c.done()
	return c.wrap("close", err)
}

// CloseWithReset is Close by a TCP reset: nothing lingers on either side.
func (c *Conn) CloseWithReset() error {
	if !c.closed.Load() {
		c.stream.SetLinger(0) // a connection that is gone already needs none
	}
	return c.Close()
}

// SetLinger is as that of *net.TCPConn: with 0, Close resets the connection.
func (c *Conn) SetLinger(seconds int) error {
	return c.wrap("set", c.stream.SetLinger(seconds))
}

// LocalAddr returns our address, a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return &c.local }

// RemoteAddr returns the peer's address, a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return &c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.wrap("set", c.stream.SetDeadline(t)) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.wrap("set", c.stream.SetReadDeadline(t))
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", c.stream.SetWriteDeadline(t))
}

// wrap gives an error the form that package net gives it: crypto/tls and others
// ask whether it is a net.Error, which an *fs.PathError is not.
func (c *Conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if _, ok := err.(*net.OpError); ok {
		return err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if errors.Is(err, fs.ErrClosed) {
		err = net.ErrClosed
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: &c.local, Addr: &c.remote, Err: err}
}

func tcpAddr(a netip.AddrPort) net.TCPAddr {
	return net.TCPAddr{IP: a.Addr().WithZone("").AsSlice(), Port: int(a.Port()), Zone: a.Addr().Zone()}
}

package targets

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// A uint128 is an address as a number. IPv4 addresses are numbers below 2^32 in
// a set of their own, so that the same code serves both families.
type uint128 struct{ hi, lo uint64 }

var (
	max4 = uint128{0, 1<<32 - 1}
	max6 = uint128{^uint64(0), ^uint64(0)}
)

// number returns the address as a number, without its zone.
func number(a netip.Addr) uint128 {
	if a.Is4() {
		b := a.As4()
		return uint128{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return uint128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func (a uint128) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

// inFamily returns the address that the number means in IPv4 or IPv6.
func (a uint128) inFamily(six bool) netip.Addr {
	if six {
		return a.addr()
	}
	return addr4(uint32(a.lo))
}

func (a uint128) cmp(b uint128) int {
	switch {
	case a.hi < b.hi || a.hi == b.hi && a.lo < b.lo:
		return -1
	case a == b:
		return 0
	}
	return 1
}

func (a uint128) less(b uint128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a uint128) plus(n uint64) uint128 {
	lo, carry := bits.Add64(a.lo, n, 0)
	return uint128{a.hi + carry, lo}
}

func (a uint128) minus(b uint128) uint128 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return uint128{hi, lo}
}

func (a uint128) or(b uint128) uint128      { return uint128{a.hi | b.hi, a.lo | b.lo} }
func (a uint128) without(b uint128) uint128 { return uint128{a.hi &^ b.hi, a.lo &^ b.lo} }

func (a uint128) wide() uint128          { return a }
func (uint128) narrow(n uint128) uint128 { return n }
func minOf(a, b uint128) uint128         { return pick(a.less(b), a, b) }
func maxOf(a, b uint128) uint128         { return pick(a.less(b), b, a) }
func pick(first bool, a, b uint128) uint128 {
	if first {
		return a
	}
	return b
}

// A uint32key is an IPv4 address as a number of four bytes.
type uint32key uint32

func (a uint32key) cmp(b uint32key) int {
	switch {
	case a < b:
		return -1
	case a == b:
		return 0
	}
	return 1
}

func (a uint32key) plus(n uint64) uint32key  { return a + uint32key(n) }
func (a uint32key) wide() uint128            { return uint128{0, uint64(a)} }
func (uint32key) narrow(n uint128) uint32key { return uint32key(n.lo) }

// A span is a range of addresses, both ends included.
type span struct{ first, last uint128 }

// size returns the number of addresses; ok is false if it exceeds 2^64-1.
func (s span) size() (n uint64, ok bool) {
	d := s.last.minus(s.first)
	return d.lo + 1, d.hi == 0 && d.lo != ^uint64(0)
}

// clip returns the part of s within t; ok is false if there is none.
func (s span) clip(t span) (part span, ok bool) {
	part = span{maxOf(s.first, t.first), minOf(s.last, t.last)}
	return part, !part.last.less(part.first)
}

func spanOf(p netip.Prefix) span {
	first := number(p.Masked().Addr())
	host := p.Addr().BitLen() - p.Bits()
	var mask uint128
	if host > 64 {
		mask = uint128{1<<(host-64) - 1, ^uint64(0)}
	} else {
		mask = uint128{0, 1<<host - 1} // a shift by 64 gives 0, and 0-1 all ones
	}
	return span{first, uint128{first.hi | mask.hi, first.lo | mask.lo}}
}

package targets

import (
	"math/bits"
	"slices"
)

// blockSize is the number of positions in a block of Positions.
const blockSize = 1 << 16

// Positions is a set of positions of an Order, for resuming a run: those that
// are done. Positions are done nearly in order, so blocks fill up; a full block
// is kept as part of a range, and a million neighbours cost a few bytes. The
// zero value is empty. It is for one goroutine at a time.
type Positions struct {
	full   []blockRange // sorted, not touching
	blocks map[uint64]*block
	n      uint64
}

// A blockRange is blocks from to to, without to, all full.
type blockRange struct{ from, to uint64 }

// A block is a partly filled block: a sorted list while it is small, then bits.
type block struct {
	list []uint16
	bits *[blockSize / 64]uint64
	n    int
}

// listMax is where a list of two bytes a position costs as much as the bits.
const listMax = blockSize / 8 / 2

// Add adds a position; adding it again changes nothing.
func (p *Positions) Add(pos uint64) {
	b, low := pos/blockSize, uint16(pos%blockSize)
	if p.isFull(b) {
		return
	}
	if p.blocks == nil {
		p.blocks = map[uint64]*block{}
	}
	x := p.blocks[b]
	if x == nil {
		x = &block{}
		p.blocks[b] = x
	}
	if !x.add(low) {
		return
	}
	p.n++
	if x.n == blockSize {
		delete(p.blocks, b)
		p.fill(b)
	}
}

// Contains reports whether a position was added.
func (p *Positions) Contains(pos uint64) bool {
	b := pos / blockSize
	if p.isFull(b) {
		return true
	}
	x := p.blocks[b]
	return x != nil && x.contains(uint16(pos%blockSize))
}

// Len returns the number of positions.
func (p *Positions) Len() uint64 { return p.n }

// after returns the number of the first range that begins after block b.
func (p *Positions) after(b uint64) int {
	i, _ := slices.BinarySearchFunc(p.full, b, func(r blockRange, b uint64) int {
		if r.from > b {
			return 1
		}
		return -1
	})
	return i
}

func (p *Positions) isFull(b uint64) bool {
	i := p.after(b)
	return i > 0 && b < p.full[i-1].to
}

// fill notes that a block is full.
func (p *Positions) fill(b uint64) {
	i := p.after(b)
	left := i > 0 && p.full[i-1].to == b
	right := i < len(p.full) && p.full[i].from == b+1
	switch {
	case left && right:
		p.full[i-1].to = p.full[i].to
		p.full = slices.Delete(p.full, i, i+1)
	case left:
		p.full[i-1].to++
	case right:
		p.full[i].from--
	default:
		p.full = slices.Insert(p.full, i, blockRange{b, b + 1})
	}
}

func (x *block) add(low uint16) bool {
	if x.bits == nil {
		i, ok := slices.BinarySearch(x.list, low)
		if ok {
			return false
		}
		x.list = slices.Insert(x.list, i, low)
		if x.n++; x.n > listMax {
			x.bits = new([blockSize / 64]uint64)
			for _, l := range x.list {
				x.bits[l/64] |= 1 << (l % 64)
			}
			x.list = nil
		}
		return true
	}
	if x.contains(low) {
		return false
	}
	x.bits[low/64] |= 1 << (low % 64)
	x.n++
	return true
}

func (x *block) contains(low uint16) bool {
	if x.bits == nil {
		_, ok := slices.BinarySearch(x.list, low)
		return ok
	}
	return x.bits[low/64]>>(low%64)&1 == 1
}

// Next returns the smallest position from pos on that is not in the set.
func (p *Positions) Next(pos uint64) uint64 {
	for {
		b := pos / blockSize
		if i := p.after(b); i > 0 && b < p.full[i-1].to {
			pos = p.full[i-1].to * blockSize
			continue
		}
		x := p.blocks[b]
		if x == nil {
			return pos
		}
		if next, ok := x.next(uint16(pos % blockSize)); ok {
			return b*blockSize + uint64(next)
		}
		pos = (b + 1) * blockSize
	}
}

func (x *block) next(low uint16) (uint16, bool) {
	if x.bits == nil {
		i, _ := slices.BinarySearch(x.list, low)
		for ; i < len(x.list) && x.list[i] == low; i++ {
			if low++; low == 0 {
				return 0, false
			}
		}
		return low, true
	}
	word := int(low / 64)
	free := ^x.bits[word] >> (low % 64) << (low % 64)
	for free == 0 {
		if word++; word == len(x.bits) {
			return 0, false
		}
		free = ^x.bits[word]
	}
	return uint16(word*64 + bits.TrailingZeros64(free)), true
}

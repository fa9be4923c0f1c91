package targets

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"
)

// A Shard is one of N equal parts of a plan, counted from 1: I of N owns the
// indices i with i mod N == I-1. The zero Shard is everything.
type Shard struct{ I, N uint64 }

// ParseShard reads "2/8". Errors are *SpecError.
func ParseShard(s string) (Shard, error) {
	bad := func(reason string) (Shard, error) {
		return Shard{}, &SpecError{What: "shard", Spec: s, Reason: reason, Hint: "write 1/8 to 8/8 for eight parts"}
	}
	left, right, ok := strings.Cut(s, "/")
	i, err1 := strconv.ParseUint(left, 10, 64)
	n, err2 := strconv.ParseUint(right, 10, 64)
	switch {
	case !ok || !allDigits(left) || !allDigits(right) || err1 != nil || err2 != nil:
		return bad("it is not two numbers with a slash between them")
	case n == 0 || n > MaxEndpoints:
		return bad("the number of parts is not between 1 and 2^48")
	case i == 0 || i > n:
		return bad("there is no part " + left + " of " + right)
	}
	return Shard{i, n}, nil
}

// String returns the shard as ParseShard reads it.
func (s Shard) String() string {
	s = s.whole()
	return strconv.FormatUint(s.I, 10) + "/" + strconv.FormatUint(s.N, 10)
}

func (s Shard) whole() Shard {
	if s.N == 0 {
		return Shard{1, 1}
	}
	return s
}

// Owns reports whether index i belongs to the shard.
func (s Shard) Owns(i uint64) bool {
	s = s.whole()
	return i%s.N == s.I-1
}

// OwnsName reports whether a name belongs to the shard: by SHA-256 of its
// Text, so that each machine of a run decides the same.
func (s Shard) OwnsName(n Name) bool {
	h := sha256.Sum256([]byte(n.Text))
	return s.Owns(binary.BigEndian.Uint64(h[:8]))
}

// An Order is a permutation of the indices of a shard. It is a pure function
// of plan, seed and shard, needs no memory, and may be used by several goroutines.
type Order struct {
	shard   Shard
	feistel *feistel
}

// Order returns the order in which a shard of the plan is visited.
func (p *Plan) Order(s Shard) Order {
	s = s.whole()
	n := uint64(0)
	if s.I >= 1 && p.Len() >= s.I {
		n = (p.Len()-s.I)/s.N + 1
	}
	return Order{s, newFeistel(n, p.seed)}
}

// Len returns the number of positions: the indices that the shard owns.
func (o Order) Len() uint64 { return o.feistel.n }

// At returns the index at a position, which must be less than Len.
func (o Order) At(pos uint64) (index uint64) {
	return o.feistel.at(pos)*o.shard.N + o.shard.I - 1
}

// Pos returns the position of an index; ok is false if it is not the shard's.
func (o Order) Pos(index uint64) (pos uint64, ok bool) {
	k := index / o.shard.N
	if index%o.shard.N != o.shard.I-1 || k >= o.feistel.n {
		return 0, false
	}
	return o.feistel.inverse(k), true
}

// rounds of the Feistel network. Two fail TestOrderSpreadsOverNetworks, four and
// more pass it; masscan found four visibly uneven in use and took 14. Eight
// leave a margin, for 7 ns more than four. The number is part of the order, and
// so of every journal.
const rounds = 8

// A feistel permutes [0, n): a Feistel network over the smallest power of two
// that holds n, with cycle walking (what falls outside goes through again,
// fewer than two times on average). The halves differ by a bit if the number
// of bits is odd.
type feistel struct {
	n           uint64
	right       uint // bits of the right half
	left        uint // bits of the left half: right or one more
	keys        [rounds]uint64
	maskL, mask uint64
}

func newFeistel(n, seed uint64) *feistel {
	f := &feistel{n: n}
	width := uint(1)
	if n > 2 {
		width = uint(bits.Len64(n - 1))
	}
	f.right = width / 2
	f.left = width - f.right
	f.maskL, f.mask = 1<<f.left-1, 1<<f.right-1
	for r := range f.keys {
		var in [16]byte
		binary.BigEndian.PutUint64(in[:8], seed)
		binary.BigEndian.PutUint64(in[8:], uint64(r))
		h := sha256.Sum256(in[:])
		f.keys[r] = binary.BigEndian.Uint64(h[:8])
	}
	return f
}

// mix is a round function: a multiplication carries every bit of x upwards, and
// the folded product brings the result back to where the masks look. The
// constant is 2^64 divided by the golden ratio, odd.
func mix(x, key uint64) uint64 {
	hi, lo := bits.Mul64(x^key, 0x9e3779b97f4a7c15)
	lo ^= hi
	return lo ^ lo>>32
}

func (f *feistel) at(x uint64) uint64 {
	for {
		l, r := x>>f.right, x&f.mask
		for i := 0; i < rounds; i += 2 {
			l ^= mix(r, f.keys[i]) & f.maskL
			r ^= mix(l, f.keys[i+1]) & f.mask
		}
		if x = l<<f.right | r; x < f.n {
			return x
		}
	}
}

func (f *feistel) inverse(x uint64) uint64 {
	for {
		l, r := x>>f.right, x&f.mask
		for i := rounds - 2; i >= 0; i -= 2 {
			r ^= mix(l, f.keys[i+1]) & f.mask
			l ^= mix(r, f.keys[i]) & f.maskL
		}
		if x = l<<f.right | r; x < f.n {
			return x
		}
	}
}

package lab

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Faults are what a wire does to the frames that pass, the same each way. The
// zero Faults are a perfect wire.
//
// What happens to a frame depends on Seed, the way it goes, the endpoint that it
// is to or from, and how many frames of that endpoint went that way before. So it
// does not matter in which order endpoints are probed, from which ports, or how
// fast: the same seed loses the same SYNs of the same endpoints.
type Faults struct {
	Seed      uint64
	Loss      float64       // percent of the frames that are lost
	Duplicate float64       // percent of the others that arrive twice
	Delay     time.Duration // of every frame
	Jitter    time.Duration // further delay of each, evenly spread from 0 to this: frames overtake one another
}

// A direction is which way a frame goes.
type direction byte

const (
	outward direction = iota // from the scanner
	inward
)

// A frameKey says which frame it is: the n-th of an endpoint, one way.
type frameKey struct {
	dir      direction
	endpoint netip.AddrPort // the far one
	n        uint32         // from 0
}

// A fate is what happens to one frame: how long each copy that arrives takes.
type fate struct {
	copies int // 0: it is lost
	after  [2]time.Duration
}

// A dealer decides on the fates of frames.
type dealer struct {
	Faults
	source *rand.ChaCha8
	draw   *rand.Rand
}

func newDealer(f Faults) *dealer {
	source := rand.NewChaCha8([32]byte{})
	return &dealer{Faults: f, source: source, draw: rand.New(source)}
}

// fate returns what happens to a frame. All that names the frame is the seed of
// the few random numbers that this takes.
func (d *dealer) fate(k frameKey) (f fate) {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[0:], d.Seed)
	addr := k.endpoint.Addr().As16()
	copy(seed[8:], addr[:])
	binary.BigEndian.PutUint16(seed[24:], k.endpoint.Port())
	binary.BigEndian.PutUint32(seed[26:], k.n)
	seed[30] = byte(k.dir)
	d.source.Seed(seed)
	if d.percent(d.Loss) {
		return f
	}
	f.copies = 1
	if d.percent(d.Duplicate) {
		f.copies = 2
	}
	for i := range f.copies {
		f.after[i] = d.Delay + time.Duration(d.draw.Float64()*float64(d.Jitter))
	}
	return f
}

// percent is true so many times of a hundred.
func (d *dealer) percent(p float64) bool { return d.draw.Float64()*100 < p }

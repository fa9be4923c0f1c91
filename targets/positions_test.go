package targets

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

func TestPositionsAreASet(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	var p Positions
	want := map[uint64]bool{}
	const n = 3*blockSize + 100
	for range 400_000 {
		x := r.Uint64N(n)
		p.Add(x)
		want[x] = true
	}
	for x := range uint64(2 * blockSize) { // two blocks become full
		p.Add(x)
		want[x] = true
	}
	if p.Len() != uint64(len(want)) {
		t.Fatalf("Len is %d, want %d", p.Len(), len(want))
	}
	next := uint64(n)
	for x := uint64(n); x > 0; x-- {
		if p.Contains(x-1) != want[x-1] {
			t.Fatalf("Contains(%d) is %v", x-1, p.Contains(x-1))
		}
		if !want[x-1] {
			next = x - 1
		}
		if got := p.Next(x - 1); got != next {
			t.Fatalf("Next(%d) is %d, want %d", x-1, got, next)
		}
	}
}

func TestFullBlocksJoin(t *testing.T) {
	for _, order := range [][]uint64{{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 1, 3}, {3, 0, 2, 1}, {1, 3, 0, 2}} {
		var p Positions
		for _, b := range order {
			for x := range uint64(blockSize) {
				p.Add(b*blockSize + x)
			}
		}
		if len(p.full) != 1 || len(p.blocks) != 0 || p.Len() != 4*blockSize || p.Next(5) != 4*blockSize || p.Contains(4*blockSize) {
			t.Errorf("%v: %d ranges, %d blocks, %d positions", order, len(p.full), len(p.blocks), p.Len())
		}
	}
}

func TestNeighbouringPositionsCostNothing(t *testing.T) {
	var before, after runtime.MemStats
	var p Positions
	runtime.GC()
	runtime.ReadMemStats(&before)
	for x := range uint64(1 << 20) {
		p.Add(x)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := int64(after.HeapAlloc) - int64(before.HeapAlloc); n > 16<<10 {
		t.Errorf("a million neighbours take %d bytes", n)
	}
	if p.Len() != 1<<20 {
		t.Errorf("Len is %d", p.Len())
	}
}

package lab

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// frames calls f with the first ten frames of 2,000 endpoints, each way.
func frames(f func(frameKey)) (n int) {
	addr := netip.MustParseAddr("10.64.0.0")
	for range 2000 {
		for n := range uint32(10) {
			for _, dir := range []direction{outward, inward} {
				f(frameKey{dir, netip.AddrPortFrom(addr, 25), n})
			}
		}
		addr = addr.Next()
	}
	return 40_000
}

// checkShare fails unless got of n is what a percentage makes it, within five
// standard deviations. (The seed is fixed: it fails always or never.)
func checkShare(t *testing.T, what string, got, n int, percent float64) {
	t.Helper()
	p := percent / 100
	if mean, sigma := float64(n)*p, math.Sqrt(float64(n)*p*(1-p)); math.Abs(float64(got)-mean) > 5*sigma {
		t.Errorf("%s: %d of %d, want %.0f within %.0f", what, got, n, mean, 5*sigma)
	}
}

func TestFatesAreWhatWasAskedFor(t *testing.T) {
	for _, loss := range []float64{0, 1, 5, 10, 100} {
		f := Faults{Seed: 7, Loss: loss, Duplicate: 20, Delay: 50 * time.Millisecond, Jitter: 100 * time.Millisecond}
		d := newDealer(f)
		lost, twice, late, copies := 0, 0, 0, 0
		n := frames(func(k frameKey) {
			got := d.fate(k)
			switch got.copies {
			case 0:
				lost++
			case 2:
				twice++
			}
			for _, after := range got.after[:got.copies] {
				copies++
				if after < f.Delay || after > f.Delay+f.Jitter {
					t.Fatalf("%v: takes %v", k, after)
				}
				if after >= f.Delay+f.Jitter/4 {
					late++
				}
			}
		})
		checkShare(t, "lost", lost, n, loss)
		checkShare(t, "twice", twice, n-lost, 20)
		checkShare(t, "in the later three quarters of the jitter", late, copies, 75)
	}
}

// TestFatesAreIndependent: what happens to a frame says nothing about the next one of the
// endpoint, about the same one the other way, or about that of the next endpoint.
func TestFatesAreIndependent(t *testing.T) {
	d := newDealer(Faults{Loss: 50})
	var next, back, beside int
	n := frames(func(k frameKey) {
		lost := func(k frameKey) bool { return d.fate(k).copies == 0 }
		other := [3]frameKey{k, k, k}
		other[0].n++
		other[1].dir = 1 - k.dir
		other[2].endpoint = netip.AddrPortFrom(k.endpoint.Addr(), 26)
		for i, same := range []*int{&next, &back, &beside} {
			if lost(k) == lost(other[i]) {
				*same++
			}
		}
	})
	checkShare(t, "the next frame has the same fate", next, n, 50)
	checkShare(t, "the frame the other way has the same fate", back, n, 50)
	checkShare(t, "the frame of another port has the same fate", beside, n, 50)
}

func TestASeedRepeatsFates(t *testing.T) {
	f := Faults{Seed: 1, Loss: 30, Duplicate: 30, Jitter: time.Second}
	a, b := newDealer(f), newDealer(f)
	f.Seed = 2
	other := newDealer(f)
	var fates []fate
	frames(func(k frameKey) { fates = append(fates, a.fate(k)) })
	i, same := len(fates), 0
	for _, k := range backwards() { // the order does not matter
		i--
		if got := b.fate(k); got != fates[i] {
			t.Fatalf("%v: %v, and %v with the same seed", k, fates[i], got)
		}
		if other.fate(k) == fates[i] {
			same++
		}
	}
	checkShare(t, "lost with both seeds", same, len(fates), 9)
}

// backwards returns the frames that frames has, the last one first.
func backwards() (keys []frameKey) {
	frames(func(k frameKey) { keys = append(keys, k) })
	slices.Reverse(keys)
	return keys
}

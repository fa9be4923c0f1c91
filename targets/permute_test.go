package targets

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestOrderVisitsEveryIndexOnceAndPosIsItsInverse(t *testing.T) {
	sizes := []uint64{65535, 65536, 65537, 1_000_003, 3 << 20}
	for n := uint64(1); n <= 3000; n++ {
		sizes = append(sizes, n)
	}
	if testing.Short() {
		sizes = sizes[3:]
	}
	for _, n := range sizes {
		o := Order{Shard{1, 1}, newFeistel(n, n*7919)}
		seen := make([]bool, n)
		for pos := range n {
			i := o.At(pos)
			if i >= n || seen[i] {
				t.Fatalf("n=%d: position %d gives %d: outside or twice", n, pos, i)
			}
			seen[i] = true
			if back, ok := o.Pos(i); !ok || back != pos {
				t.Fatalf("n=%d: Pos(%d) = %d, %v, want %d", n, i, back, ok, pos)
			}
		}
	}
}

func TestOrderIsInvertibleUpToTheLargestPlan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []uint64{1<<24 + 1, 1<<32 - 1, 1<<47 + 12345, MaxEndpoints} {
		o := Order{Shard{1, 1}, newFeistel(n, 42)}
		for range 2000 {
			pos := r.Uint64N(n)
			i := o.At(pos)
			if back, ok := o.Pos(i); i >= n || !ok || back != pos {
				t.Fatalf("n=%d: position %d gives %d, back %d", n, pos, i, back)
			}
		}
		if _, ok := o.Pos(n); ok {
			t.Errorf("n=%d: an index beyond the plan has a position", n)
		}
	}
}

func TestShardsPartitionThePlan(t *testing.T) {
	b := NewBuilder(Config{Ports: []Port{{25, SMTP}, {465, SMTPS}, {587, Submission}}})
	mustAdd(t, b, "10.0.0.0/28", "10.9.0.1")
	p := mustBuild(t, b, 5)
	for _, n := range []uint64{1, 2, 3, 7, 50, 51, 52, 100} {
		seen := map[uint64]bool{}
		for i := uint64(1); i <= n; i++ {
			s := Shard{i, n}
			o := p.Order(s)
			for pos := range o.Len() {
				index := o.At(pos)
				if seen[index] || index >= p.Len() || !s.Owns(index) {
					t.Fatalf("shard %v: position %d gives %d", s, pos, index)
				}
				seen[index] = true
				if back, ok := o.Pos(index); !ok || back != pos {
					t.Fatalf("shard %v: Pos(%d) = %d, %v", s, index, back, ok)
				}
			}
			for index := range p.Len() {
				if _, ok := o.Pos(index); ok != s.Owns(index) {
					t.Fatalf("shard %v has a position for %d: %v", s, index, ok)
				}
			}
		}
		if uint64(len(seen)) != p.Len() {
			t.Errorf("%d shards cover %d of %d", n, len(seen), p.Len())
		}
	}
}

func TestShardTexts(t *testing.T) {
	if s, err := ParseShard("2/8"); err != nil || s != (Shard{2, 8}) || s.String() != "2/8" {
		t.Errorf("2/8: %v, %v", s, err)
	}
	if got := (Shard{}).String(); got != "1/1" {
		t.Errorf("the zero shard is %s", got)
	}
	for _, bad := range []string{"", "3/2", "0/0", "0/8", "1/0", "a/b", "1", "1/2/3", "-1/2", "1/99999999999999999999", " 1/2"} {
		if s, err := ParseShard(bad); err == nil {
			t.Errorf("%q is read as %v", bad, s)
		}
	}
}

func TestNamesBelongToExactlyOneShard(t *testing.T) {
	for _, name := range []string{"a.example.org", "mx:example.org", "b.example.org"} {
		owners := 0
		for i := uint64(1); i <= 5; i++ {
			if (Shard{i, 5}).OwnsName(Name{Text: name}) {
				owners++
			}
		}
		if owners != 1 {
			t.Errorf("%s has %d owners", name, owners)
		}
	}
}

// TestOrderSpreadsOverNetworks cuts the order of a /16 into slices of 1 % and
// counts addresses per /24 in each: over all seeds the sum of squares must be
// that of a random permutation. A weak network of rounds is far outside.
func TestOrderSpreadsOverNetworks(t *testing.T) {
	const n, nets, cuts, seeds = 1 << 16, 256, 100, 100
	per := n / cuts
	sum := 0.0
	for seed := range uint64(seeds) {
		o := Order{Shard{1, 1}, newFeistel(n, seed)}
		for s := range cuts {
			var count [nets]int
			for pos := s * per; pos < (s+1)*per; pos++ {
				count[o.At(uint64(pos))>>8]++
			}
			want := float64(per) / nets
			for _, c := range count {
				sum += (float64(c) - want) * (float64(c) - want) / want
			}
		}
	}
	// One slice has nets-1 degrees of freedom, less 1 % because it is drawn
	// without putting back. The mean over 10,000 slices has a deviation of
	// sqrt(2*255/10000) = 0.23; ten of those are no accident.
	mean, want := sum/(cuts*seeds), float64(nets-1)*(1-float64(per)/n)
	if mean < want-2.3 || mean > want+2.3 {
		t.Errorf("mean chi-square is %.2f, want %.2f", mean, want)
	}
}

func TestOrderDependsOnTheSeed(t *testing.T) {
	a, b := newFeistel(1<<20, 1), newFeistel(1<<20, 2)
	same := 0
	for pos := range uint64(10000) {
		if a.at(pos) == b.at(pos) {
			same++
		}
	}
	if same > 10 {
		t.Errorf("%d of 10000 positions are the same under two seeds", same)
	}
}

func BenchmarkOrderAt(b *testing.B) {
	for _, n := range []uint64{3 << 16, 3 << 24, 1<<32 + 1} {
		o := Order{Shard{1, 1}, newFeistel(n, 42)}
		b.Run("", func(b *testing.B) {
			var x uint64
			for i := 0; b.Loop(); i++ {
				x ^= o.At(uint64(i) % n)
			}
			sink = x
		})
	}
}

var sink uint64

// TestOrderIsTheSameInEveryVersion: journals of older versions are resumed by
// positions, and shards of one run may come from two versions.
func TestOrderIsTheSameInEveryVersion(t *testing.T) {
	b := NewBuilder(Config{})
	mustAdd(t, b, "10.0.0.0/24", "2a00::/120", "mail.example.org")
	p := mustBuild(t, b, 42)
	var got []uint64
	for pos := range uint64(6) {
		got = append(got, p.Order(Shard{2, 3}).At(pos))
	}
	if want := []uint64{607, 652, 958, 487, 1243, 511}; !slices.Equal(got, want) {
		t.Errorf("the order begins %v, want %v", got, want)
	}
	if want := "4412ccfba6667d657d4e7b08924371f4e1c483ed740a32c78a8355b37ee59964"; p.Hash() != want {
		t.Errorf("the hash is %s, want %s", p.Hash(), want)
	}
}

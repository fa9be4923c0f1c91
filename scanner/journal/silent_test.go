package journal

import (
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestSilenceComesBackWhateverTheOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for trial := range 200 {
		want := map[uint64]int{}
		var all []silence
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli()
		density := rng.IntN(20) + 1
		base := rng.Uint64N(1 << 48)
		for i := range uint64(3000) {
			if rng.IntN(density) == 0 {
				want[base+i] = 4 - rng.IntN(density)/19
				all = append(all, silence{base + i, want[base+i], at})
			}
		}
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		got := map[uint64]int{}
		size := 0
		for b := range blocks(all) {
			rec := b.append(nil)
			size += len(rec)
			if !json.Valid(rec) || len(rec) > 20<<10 {
				t.Fatalf("%d bytes: %.80s", len(rec), rec)
			}
			back, err := parseBlock(rec)
			if err != nil {
				t.Fatal(err)
			}
			if back.Time.UnixMilli() != at {
				t.Errorf("time %v", back.Time)
			}
			for pos := range back.positions {
				if _, twice := got[pos]; twice {
					t.Fatalf("position %d twice", pos)
				}
				got[pos] = back.Attempts
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("trial %d: %d positions, want %d", trial, len(got), len(want))
		}
		if len(want) > 0 && size/len(want) > 130 {
			t.Errorf("density 1/%d: %d bytes a position", density, size/len(want))
		}
	}
}

func TestALongSilenceIsOneShortRecord(t *testing.T) {
	var all []silence
	for i := range uint64(100_000) {
		if i%1000 != 0 {
			all = append(all, silence{i, 4, 0})
		}
	}
	n := 0
	for b := range blocks(all) {
		n++
		if b.From != 1 || b.To != 99_999 || len(b.Except) != 99 {
			t.Errorf("from %d to %d except %d", b.From, b.To, len(b.Except))
		}
	}
	if n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestAPositionSaidTwiceIsOne(t *testing.T) {
	for b := range blocks([]silence{{5, 4, 0}, {5, 4, 0}, {6, 4, 0}}) {
		n := 0
		for range b.positions {
			n++
		}
		if n != 2 {
			t.Errorf("%d positions", n)
		}
	}
}

func TestASilentRecordThatBreaksTheRulesIsAnError(t *testing.T) {
	for _, bad := range []string{
		`{"from":2,"to":1}`, `{"from":0,"to":18446744073709551615}`, `{"from":0,"to":9,"except":[5,4]}`,
		`{"from":-1,"to":1}`, `{"from":0,"to":1,"attempts":-1}`, `{"from":"0"}`, `[`,
	} {
		if _, err := parseBlock([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	b, err := parseBlock([]byte(`{"type":"silent","from":18446744073709551614,"to":18446744073709551615}`))
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	for last = range b.positions {
	}
	if last != math.MaxUint64 {
		t.Errorf("last %d", last)
	}
}

func FuzzSilent(f *testing.F) {
	f.Add([]byte(`{"type":"silent","time":"2026-01-02T03:04:05.678Z","from":1,"to":9,"except":[2,3],"attempts":4}`))
	f.Add([]byte(`{"from":0,"to":1048575}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		b, err := parseBlock(line)
		if err != nil {
			return
		}
		last, n := b.From, 0
		for pos := range b.positions {
			if pos < last || pos > b.To {
				t.Fatalf("position %d", pos)
			}
			last = pos
			if n++; n > maxSpan {
				t.Fatal("more than a record may say")
			}
		}
	})
}

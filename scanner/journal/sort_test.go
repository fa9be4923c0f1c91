package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestTheSorterKeepsTheLastOfEveryKeyInOrder(t *testing.T) {
	for _, test := range []struct{ memory, rows, keys int }{
		{sortMemory, 0, 1}, {sortMemory, 5000, 3000}, {100, 3000, 500}, {2000, 20_000, 15_000}, {1, 2000, 1000},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			dir := t.TempDir()
			s := sorter{memory: test.memory, dir: dir}
			rng := rand.New(rand.NewPCG(5, 6))
			want := map[string]string{}
			for i := range test.rows {
				k := rng.IntN(test.keys)
				row := sortRow{major: uint64(k/3) * 1e12, minor: []byte(strings.Repeat("x", k%3)), from: uint16(i), silent: i%5 == 0}
				row.body = fmt.Appendf(nil, "%d %s", i, strings.Repeat("b", rng.IntN(100)))
				want[fmt.Sprintf("%020d %s", row.major, row.minor)] = fmt.Sprintf("%s %d %t", row.body, row.from, row.silent)
				if err := s.add(row); err != nil {
					t.Fatal(err)
				}
			}
			var keys []string
			for row, err := range s.rows {
				if err != nil {
					t.Fatal(err)
				}
				key := fmt.Sprintf("%020d %s", row.major, row.minor)
				keys = append(keys, key)
				if got := fmt.Sprintf("%s %d %t", row.body, row.from, row.silent); got != want[key] {
					t.Fatalf("%s: got %s, want %s", key, got, want[key])
				}
			}
			if len(keys) != len(want) || !slices.IsSorted(keys) {
				t.Errorf("%d rows, want %d; sorted %t", len(keys), len(want), slices.IsSorted(keys))
			}
			if test.memory < sortMemory && s.file == nil {
				t.Error("nothing was written to a file")
			}
			s.close()
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestManyRunsAreMergedInSteps(t *testing.T) {
	s := sorter{memory: 1, dir: t.TempDir()}
	defer s.close()
	const n = 3*maxRuns + 10
	for i := range uint64(n) {
		if err := s.add(sortRow{major: (i * 7919) % n, body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.runs) > maxRuns+3 || s.runs[0].level != 1 {
		t.Errorf("%d runs, the first of level %d", len(s.runs), s.runs[0].level)
	}
	next := uint64(0)
	for row, err := range s.rows {
		if err != nil || row.major != next {
			t.Fatalf("got %d, want %d: %v", row.major, next, err)
		}
		next++
	}
	if next != n {
		t.Errorf("%d rows", next)
	}
}

func TestNoRoomForTheSortIsAnError(t *testing.T) {
	s := sorter{memory: 1, dir: "/no/such/directory"}
	defer s.close()
	s.add(sortRow{major: 1})
	if err := s.add(sortRow{major: 2}); err == nil || runtime.GOOS != "windows" && !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("got %v", err)
	} else if _, ok := errors.AsType[*SortError](err); !ok {
		t.Errorf("%v is taken for an error of the journal", err)
	}
}

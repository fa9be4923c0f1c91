package targets

import (
	"fmt"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// TestEverySizeIsCoveredOnceByAnyNumberOfShards walks plans of 1 to 5,000
// addresses. The long tier divides each into 1 to 64 shards, the others into
// some of these numbers, another for each size.
func TestEverySizeIsCoveredOnceByAnyNumberOfShards(t *testing.T) {
	t.Parallel()
	const most, mostShards = 5000, 64
	tries := lab.Count(t, 1, 2, mostShards)
	for part := range 4 {
		t.Run(fmt.Sprint("part ", part+1), func(t *testing.T) {
			t.Parallel()
			seen := make([]bool, most)
			for n := part + 1; n <= most; n += 4 {
				b := NewBuilder(Config{Ports: []Port{{25, SMTP}}})
				mustAdd(t, b, fmt.Sprintf("10.0.0.7-10.0.%d.%d", (n+6)/256, (n+6)%256))
				p := mustBuild(t, b, uint64(n)*7919)
				for try := range tries {
					coverInShards(t, p, seen[:n], uint64(1+(n/4+try*mostShards/tries)%mostShards))
				}
			}
		})
	}
}

// coverInShards fails unless a number of shards has each endpoint of a plan once.
func coverInShards(t *testing.T, p *Plan, seen []bool, shards uint64) {
	t.Helper()
	clear(seen)
	count := 0
	for i := range shards {
		o := p.Order(Shard{i + 1, shards})
		for pos := range o.Len() {
			index := o.At(pos)
			if index >= uint64(len(seen)) || seen[index] {
				t.Fatalf("%d endpoints, shard %d/%d: position %d gives %d: outside or twice", len(seen), i+1, shards, pos, index)
			}
			seen[index] = true
			count++
		}
	}
	if count != len(seen) {
		t.Fatalf("%d endpoints, %d shards: %d came", len(seen), shards, count)
	}
}

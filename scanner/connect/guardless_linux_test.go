package connect

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

var _ = lab.Register("guardless", func(ctx context.Context, _ []string) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	wrong := 0
	const runs = 60
	for range runs {
		wg.Go(func() {
			ts := endpoints([]uint16{26}, lab.TargetAddr4)
			err := new(Engine).Scan(ctx, pace.New(pace.Config{}, each(ts...)), func(o scanner.Observation) {
				mu.Lock()
				defer mu.Unlock()
				if o.State != scanner.Closed {
					wrong++
				}
			})
			if err != nil {
				fmt.Println(err)
			}
		})
	}
	wg.Wait()
	if wrong > 0 {
		return fmt.Errorf("%d of %d resets were not the target's", wrong, runs)
	}
	lab.Ready()
	<-ctx.Done()
	return nil
})

// TestResetsAreTheTargetsForAnOrdinaryUser dials one port in each of many runs: where the kernel allows an ordinary user
// no guard, the loop that finds out is not always the one that dials again.
func TestResetsAreTheTargetsForAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		l.StartNobody(t, lab.Scanner, "guardless")
	})
}

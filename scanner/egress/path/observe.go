package path

import (
	"context"
	"sync"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/connect"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/targets"
)

// observe finds out the state of those ports of a request of which it is not known: open,
// closed, filtered, or a fault of this machine, which no trace can tell from the others'.
func (t *Tracer) observe(ctx context.Context, r Request) ([]scanner.Observation, error) {
	out := make([]scanner.Observation, len(r.Ports))
	var todo []targets.Target
	for i, port := range r.Ports {
		o, known := r.Known[port]
		if out[i] = o; !known {
			todo = append(todo, targets.Target{Index: uint64(i), Addr: r.Addr, Port: port, Role: targets.RoleOf(port)})
		}
	}
	if len(todo) == 0 {
		return out, nil
	}
	next := func() (targets.Target, bool) {
		if len(todo) == 0 {
			return targets.Target{}, false
		}
		target := todo[0]
		todo = todo[1:]
		return target, true
	}
	var mu sync.Mutex
	engine := &connect.Engine{Source: t.Source, Interface: t.Interface, Timeout: t.Silence}
	err := engine.Scan(ctx, pace.New(pace.Config{}, next), func(o scanner.Observation) {
		mu.Lock()
		defer mu.Unlock()
		out[o.Target.Index] = o
	})
	return out, err
}

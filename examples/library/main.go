// Command library shows the packages without the command line: it sweeps what
// it is given, and prints the servers that offer no encryption.
//
//	go run ./examples/library 127.0.0.1:2525
package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/connect"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

func main() {
	if err := sweep(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "library:", err)
		os.Exit(1)
	}
}

func sweep(specs []string) error {
	// What to probe: a plan is typed specs, sorted, counted, and free of what
	// must not be contacted.
	ports, err := targets.ParsePorts("25,465,587")
	if err != nil {
		return err
	}
	builder := targets.NewBuilder(targets.Config{Ports: ports})
	for _, spec := range specs {
		if err := builder.Add(spec); err != nil {
			return err
		}
	}
	plan, err := builder.Build(1)
	if err != nil {
		return err
	}

	// In which order, and how fast.
	order := plan.Order(targets.Shard{})
	next := uint64(0)
	queue := pace.New(pace.Config{Rate: 100, HostLimit: 2}, func() (targets.Target, bool) {
		for next < order.Len() {
			t := plan.At(order.At(next))
			next++
			if ok, _ := plan.Permit(t.Addr, true); ok {
				return t, true
			}
		}
		return targets.Target{}, false
	})

	// An engine that connects, a prober that talks, and a place for results.
	s := scanner.Scanner{
		Engine: &connect.Engine{Timeout: 3900 * time.Millisecond, Retries: 3, GreetingTimeout: 12 * time.Second, Banner: true},
		Prober: &smtp.Prober{},
	}
	var mu sync.Mutex // results come from several goroutines
	return s.Run(context.Background(), queue, func(r *scanner.Result) {
		mu.Lock()
		defer mu.Unlock()
		if r.Service != nil && r.Service.Kind == scanner.KindSMTP && r.Service.TLS == nil {
			// A banner is a stranger's text: clean it before it meets a terminal.
			fmt.Println(r.Target.AddrPort(), report.CleanBytes(r.Service.Banner))
		}
	})
}

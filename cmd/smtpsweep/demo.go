package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
)

// demoPause is how long a slow greeter of the demo waits, and demoPatience how
// long the sweep waits for a mute one: real ones take 6 s, and get 65 s.
const (
	demoPause    = 1500 * time.Millisecond
	demoPatience = "3s"
	demoDeadline = 14 * time.Second
	demoPorts    = 25001 // the first of the zoo's ports, where they are free
)

func newDemo(u *ui) *cobra.Command {
	var flags outputFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Sweep a zoo of mail servers, good and bad, that runs inside the process",
		Long: `Starts a zoo of mail servers on loopback ports, good ones and every kind of bad
one, and sweeps it with exactly the code of "smtpsweep scan". Nothing leaves
this machine. At the end every row is compared with what the server really is.`,
		Example: "  smtpsweep demo\n  smtpsweep demo -o zoo.csv -o zoo.xml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return runDemo(u, flags)
		},
	}
	flags.register(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

// A resident is a server of the demo, and what the sweep said of it.
type resident struct {
	behaviour scannertest.Behaviour
	wrong     []string // what the row has wrong
	seen      bool
}

func runDemo(u *ui, out outputFlags) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	zoo, err := scannertest.Start(ctx, scannertest.Config{GreetPause: demoPause})
	if err != nil {
		return fail(exitEnvironment, "%w", err)
	}
	defer zoo.Close()
	residents := map[netip.AddrPort]*resident{}
	f := &scanFlags{}
	scan := newScanCommand(u, f, nil)
	var specs []string
	for i, b := range scannertest.Behaviours() {
		at, err := zoo.Listen(fmt.Sprintf("127.0.0.1:%d", demoPorts+i), b)
		if err != nil { // taken: any other port will do
			at, err = zoo.Listen("127.0.0.1:0", b)
		}
		if err != nil {
			return fail(exitEnvironment, "the zoo needs loopback ports: %w", err)
		}
		residents[at] = &resident{behaviour: b}
		specs = append(specs, fmt.Sprintf("%s/%s", at, b.Role))
	}
	for name, value := range map[string]string{"patience": demoPatience, "host-limit": "100", "greeting-timeout": demoPatience, "show": "all"} {
		if err := scan.Flags().Set(name, value); err != nil {
			return fail(exitEnvironment, "demo: --%s: %w", name, err)
		}
	}
	f.outputFlags = demoOutput(out)
	var mu sync.Mutex
	hooks := sweepHooks{deadline: demoDeadline, roots: zoo.Roots(), temporary: true, onResult: func(r *scanner.Result) {
		mu.Lock()
		defer mu.Unlock()
		if home := residents[r.Target.AddrPort()]; home != nil {
			home.seen, home.wrong = true, zoo.Want(home.behaviour).Diff(*r, false)
		}
	}}
	if out.verbose {
		for _, at := range slices.SortedFunc(maps.Keys(residents), netip.AddrPort.Compare) {
			u.say("%s %s: %s", at, residents[at].behaviour.Name, residents[at].behaviour.Help)
		}
	}
	u.say("A zoo of %d mail servers, good and bad, inside this process; smtpsweep scan sweeps it (-v says what each is):", len(residents))
	if err := runScan(u, f, scan.Flags(), specs, hooks); err != nil {
		return err
	}
	return judgeDemo(u, residents, zoo.Counts())
}

func demoOutput(out outputFlags) outputFlags {
	if out.show == "auto" {
		out.show = "all"
	}
	return out
}

// judgeDemo compares what was said with what the servers are.
func judgeDemo(u *ui, residents map[netip.AddrPort]*resident, counts scannertest.Counts) error {
	right := 0
	for at, r := range residents {
		if r.seen && len(r.wrong) == 0 {
			right++
			continue
		}
		u.say("WRONG %s is %s: %s", at, r.behaviour.Name, report.Clean(fmt.Sprint(r.wrong)))
	}
	u.say("%d of %d rows say what the server really is. Breaches of etiquette that the zoo counted: %d.", right, len(residents), counts.Rude())
	if right < len(residents) || counts.Rude() > 0 {
		return silentExit(exitBad)
	}
	return nil
}

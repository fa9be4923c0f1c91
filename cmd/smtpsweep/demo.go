package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
)

// demoPause is how long a slow greeter of the demo waits, and demoPatience how
// long the sweep waits for a mute one: real ones take 6 s, and get 65 s.
const (
	demoPause    = time.Second
	demoPatience = "5s"
	demoDeadline = 14 * time.Second
	demoPorts    = 25001 // the first of the zoo's ports, where they are free
)

func newDemo(u *ui) *cobra.Command {
	var flags outputFlags
	all := false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Sweep a zoo of mail servers, good and bad, that runs inside the process",
		Long: `Starts a zoo of mail servers on loopback ports, good ones and every kind of bad
one, and sweeps it with exactly the code of "smtpsweep scan". Nothing leaves
this machine. At the end every row is compared with what the server really is.`,
		Example: "  smtpsweep demo\n  smtpsweep demo --all -o zoo.csv -o zoo.xml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return runDemo(u, flags, all)
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&all, "all", false, "the servers too that are hardly met outside of a laboratory")
	completeOutput(cmd)
	return cmd
}

// A resident is a server of the demo, and what the sweep said of it.
type resident struct {
	behaviour scannertest.Behaviour
	wrong     []string // what the row has wrong
	looksGood bool     // the row is one of a good server, and the server is odd
	seen      bool
}

// compare compares a row with what the server really is.
func (r *resident) compare(want scannertest.Want, row *scanner.Result) {
	r.seen, r.wrong = true, want.Diff(*row, false)
	r.looksGood = !r.behaviour.Good && want.Service == scanner.KindSMTP && want.Trust == scanner.TrustTrusted && len(want.Findings) == 0
}

func runDemo(u *ui, out outputFlags, all bool) error {
	out.apply(u)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	zoo, err := scannertest.Start(ctx, scannertest.Config{GreetPause: demoPause})
	if err != nil {
		return fail(exitEnvironment, "%w", err)
	}
	defer zoo.Close()
	residents, err := moveIn(zoo, all)
	if err != nil {
		return err
	}
	f := &scanFlags{}
	scan := newScanCommand(u, f, nil)
	for name, value := range map[string]string{"patience": demoPatience, "host-limit": "100", "greeting-timeout": demoPatience} {
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
			home.compare(zoo.Want(home.behaviour), r)
		}
	}}
	var specs []string
	for _, at := range inOrder(residents) {
		b := residents[at].behaviour
		specs = append(specs, fmt.Sprintf("%s/%s", at, b.Role))
		if out.verbose {
			u.say("%s %s: %s", at, b.Name, b.Help)
		}
	}
	u.say("A zoo of %d mail servers, good and bad, inside this process; smtpsweep scan sweeps it (-v says what each is):", len(residents))
	if err := runScan(u, f, scan.Flags(), specs, hooks); err != nil {
		return err
	}
	return judgeDemo(u, residents, zoo.Counts())
}

// moveIn starts a server of every kind, or of all that are not rare.
func moveIn(zoo *scannertest.Zoo, all bool) (map[netip.AddrPort]*resident, error) {
	residents := map[netip.AddrPort]*resident{}
	for _, b := range scannertest.Behaviours() {
		if b.Rare && !all {
			continue
		}
		at, err := zoo.Listen(fmt.Sprintf("127.0.0.1:%d", demoPorts+len(residents)), b)
		if err != nil { // taken: any other port will do
			at, err = zoo.Listen("127.0.0.1:0", b)
		}
		if err != nil {
			return nil, fail(exitEnvironment, "the zoo needs loopback ports: %w", err)
		}
		residents[at] = &resident{behaviour: b}
	}
	return residents, nil
}

func inOrder(residents map[netip.AddrPort]*resident) []netip.AddrPort {
	return slices.SortedFunc(maps.Keys(residents), netip.AddrPort.Compare)
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
	var odd []string
	for _, at := range inOrder(residents) {
		r := residents[at]
		if r.seen && len(r.wrong) == 0 {
			right++
			if r.looksGood {
				odd = append(odd, fmt.Sprintf("%5d  %s", at.Port(), r.behaviour.Help))
			}
			continue
		}
		if !r.seen {
			r.wrong = []string{"there is no row of it"}
		}
		u.say("WRONG %s is %s: %s", at, r.behaviour.Name, strings.Join(r.wrong, "; "))
	}
	if len(odd) > 0 {
		u.say("Odd servers whose rows look good, and are right (a wrong name shows only where a name is scanned):")
	}
	for _, line := range odd {
		u.say("  %s", line)
	}
	u.say("%d of %d rows say what the server really is. Breaches of etiquette that the zoo counted: %d.", right, len(residents), counts.Rude())
	if right < len(residents) || counts.Rude() > 0 {
		return silentExit(exitBad)
	}
	return nil
}

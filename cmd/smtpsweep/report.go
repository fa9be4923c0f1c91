package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

// reportFlags are the flags of report.
type reportFlags struct {
	outputFlags
	salvage bool
	policy  string
	matrix  bool
}

func newReport(u *ui) *cobra.Command {
	f := &reportFlags{}
	cmd := &cobra.Command{
		Use:   "report [flags] JOURNAL...",
		Short: "Render journals again: table, CSV, XML, ...",
		Long: `Renders one or several journals in any format. "last" names the journal of the
newest scan, wherever it lies. A journal of a run that is not over, or was killed,
is rendered as far as it goes. Of a damaged one --salvage reads what is whole; with
-o NEW.jsonl that is a journal again, which scan --resume goes on with.

--policy FILE judges journals of many vantages by a policy: which segments of the
network may reach which mail ports where.
  segments: {relays: [10.1.2.0/28], users: [10.20.0.0/16]}
  deny:  [{from: all, to: any, ports: [25]}]
  allow: [{from: relays, to: any, ports: [25]}]
  exceptions: [{from: users, to: 198.51.100.7, ports: [25], owner: network team, until: 2026-12-31}]
The more specific rule counts. A vantage is of the segment that its source address
is in, or that has its --vantage name. That something is blocked is believed only if
the same far end answered on another port, or to another vantage, within 10 minutes.
Exit code 3 if the policy is violated, 5 if a part of it is untested. Formats: table,
csv, jsonl, json, md, and junit for CI.

--matrix folds journals into one sheet (table, csv, md): a row a vantage, a column an
endpoint, in a cell its state and findings.`,
		Example: `  smtpsweep report last
  smtpsweep report last -o mail.csv -o mail.xml
  smtpsweep report monday.jsonl -f targets
  smtpsweep report --policy policy.yaml relays.jsonl users.jsonl -o results.junit
  smtpsweep report --matrix relays.jsonl users.jsonl`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			f.apply(u)
			if f.policy != "" || f.matrix {
				return runSheet(u, f, args)
			}
			return runReport(u, f, args)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().Lookup("format").Usage = sheetFormatHelp(cmd.Flags().Lookup("format").Usage)
	completeOutput(cmd)
	cmd.ValidArgsFunction = lastOrFile
	cmd.Flags().StringVar(&f.policy, "policy", "", "judge the journals by the policy in this YAML `FILE`")
	cmd.Flags().BoolVar(&f.matrix, "matrix", false, "fold the journals into one sheet: vantages x endpoints")
	cmd.Flags().BoolVar(&f.salvage, "salvage", false, "read what is whole of a damaged journal, and say what is lost")
	return cmd
}

// lastOrFile completes the name of a journal.
func lastOrFile(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"last"}, cobra.ShellCompDirectiveDefault // and files
}

func runReport(u *ui, f *reportFlags, args []string) error {
	if len(args) == 0 {
		return withHint(fail(exitUsage, "no journal"), "smtpsweep report last renders the newest run")
	}
	if err := noTests(f); err != nil {
		return err
	}
	paths, err := journalsNamed(args)
	if err != nil {
		return err
	}
	switch traces, err := areTraces(paths); {
	case err != nil:
		return err
	case traces:
		return reportTraces(u, f, paths)
	}
	o, err := checkOutputs(u, f.outputFlags, false, paths...)
	if err != nil {
		return err
	}
	if f.salvage && len(paths) == 1 {
		o.copyInsteadOfRows(paths[0])
	}
	ctx, stop := withSignals(context.Background())
	defer stop()
	o.stop = ctx.scan
	done, err := await(ctx.now, func() error { // a second signal does not wait for a reader of stdout
		r, err := o.render(paths, f.salvage, true, 0)
		if r == nil {
			return err
		}
		err = cmp.Or(err, o.copySound(paths[0], r))
		err = cmp.Or(err, o.sayTotals(r, ""))
		for _, out := range o.copies {
			u.say("Go on with: smtpsweep scan --resume %s (if exclusions were added on the way they may be lost: give them again)", shellWord(out.path))
		}
		for _, run := range r.unfinished {
			if f.salvage {
				break // a damaged journal is not gone on with
			}
			u.say("The run of %s is not complete: %s. Go on with: smtpsweep scan --resume %s", run.path, run.how, shellWord(run.path))
		}
		return err
	})
	if !done {
		o.temps.remove()
	}
	return interruptedOr(ctx.scan, err)
}

// noTests refuses the format of test results where there is nothing to test.
func noTests(f *reportFlags) error {
	if f.format != "junit" && !slices.ContainsFunc(f.outputs, func(path string) bool { return strings.EqualFold(filepath.Ext(path), ".junit") }) {
		return nil
	}
	return withHint(fail(exitUsage, "junit: these journals are no test"), "smtpsweep report --policy FILE JOURNAL... -f junit tests a policy")
}

// journalsNamed finds the journals of arguments.
func journalsNamed(args []string) (paths []string, err error) {
	for _, arg := range args {
		path, err := journalNamed(arg)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// journalNamed finds "last" in the state directory, unless a file has that name.
func journalNamed(arg string) (string, error) {
	if _, err := os.Lstat(arg); err == nil || arg != "last" {
		return arg, nil
	}
	dir, err := journal.StateDir()
	if err != nil {
		return "", withHint(fail(exitEnvironment, "there is no last run: %w", err), "smtpsweep report FILE.jsonl reads another")
	}
	path, err := journal.Newest(dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%s has no journal", dir)
		}
		return "", withHint(fail(exitUsage, "there is no last run: %w", err), "smtpsweep scan TARGET makes one; smtpsweep report FILE.jsonl reads another")
	}
	return path, nil
}

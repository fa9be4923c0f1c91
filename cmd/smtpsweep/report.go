package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

// reportFlags are the flags of report.
type reportFlags struct {
	outputFlags
	salvage bool
}

func newReport(u *ui) *cobra.Command {
	f := &reportFlags{}
	cmd := &cobra.Command{
		Use:   "report [flags] JOURNAL...",
		Short: "Render journals again: table, CSV, XML, ...",
		Long: `Renders one or several journals in any format. "last" names the journal of the
newest scan, wherever it lies. A journal of a run that is not over, or was killed,
is rendered as far as it goes. Of a damaged one --salvage reads what is whole; with
-o NEW.jsonl that is a journal again, which scan --resume goes on with.`,
		Example: `  smtpsweep report last
  smtpsweep report last -o mail.csv -o mail.xml
  smtpsweep report monday.jsonl -f targets`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			f.apply(u)
			return runReport(u, f, args)
		},
	}
	f.register(cmd.Flags())
	completeOutput(cmd)
	cmd.ValidArgsFunction = lastOrFile
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
	var paths []string
	for _, arg := range args {
		path, err := journalNamed(arg)
		if err != nil {
			return err
		}
		paths = append(paths, path)
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

// Command smtpsweep finds the mail ports (25, 465, 587) of networks and names,
// says what state each is in and how it knows, and writes it for people,
// spreadsheets and pipelines.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes, as every command's help lists them.
const (
	exitDone        = 0
	exitEnvironment = 1   // could not run: privilege, environment, internal
	exitUsage       = 2   // usage or bad input, nothing sent
	exitBad         = 3   // done, and the answer is bad
	exitOutput      = 4   // an output could not be written, progress saved
	exitUndecided   = 5   // finished, but some are undecided for a cause that another run may cure
	exitRefused     = 6   // refused for safety, nothing sent
	exitJournal     = 7   // journal does not match or is damaged
	exitInterrupt   = 130 // SIGINT, progress saved
	exitTerminated  = 143 // SIGTERM, progress saved
	exitPipe        = 141 // stdout was closed
)

const exitHelp = `
Exit codes: 0 done; 1 could not run; 2 usage or bad input, nothing sent;
  3 done, and the answer is bad; 4 an output could not be written, progress saved;
  5 some are undecided for a cause that another run may cure; 6 refused for safety,
  nothing sent; 7 journal does not match or is damaged; 130, 143 interrupted,
  progress saved; 141 stdout was closed.`

// A codedError is an error with its exit code and, where we know one, a hint.
type codedError struct {
	code int
	err  error
	hint string
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// fail makes an error with an exit code.
func fail(code int, format string, args ...any) error {
	return &codedError{code: code, err: fmt.Errorf(format, args...)}
}

// withHint adds a hint to an error made by fail.
func withHint(err error, hint string) error {
	var coded *codedError
	if errors.As(err, &coded) {
		coded.hint = hint
	}
	return err
}

// A silentExit ends with a code and no message: everything has been said.
type silentExit int

func (e silentExit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	// A closed stdout is an error of a write, and ends the run in order (exit 141).
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(os.Args[1:], newUI(os.Stdin, os.Stdout, os.Stderr)))
}

// run is the whole program but for the process: tests call it.
func run(args []string, u *ui) int {
	args, err := translateArgs(args)
	if err != nil {
		return u.exit(err)
	}
	root := newRoot(u)
	root.SetArgs(args)
	help := &firstError{w: u.out}
	root.SetOut(help)
	root.SetErr(u.err)
	if err = root.Execute(); err == nil {
		err = help.err
	}
	return u.exit(err)
}

// A firstError keeps the first error of a writer to itself: of a help that could
// not be written, cobra would print the error and go on.
type firstError struct {
	w   io.Writer
	err error
}

func (f *firstError) Write(p []byte) (int, error) {
	if f.err == nil {
		_, f.err = f.w.Write(p)
	}
	return len(p), nil
}

func newRoot(u *ui) *cobra.Command {
	root := &cobra.Command{
		Use:   "smtpsweep COMMAND [flags] ...",
		Short: "Which mail ports are open, closed, filtered, who answers, and how we know",
		Long: `smtpsweep finds the mail ports (25, 465, 587) of networks and names, says what
state each is in and how it knows, and writes it for people, spreadsheets and
pipelines. It never logs in and never sends mail.`,
		Example: `  smtpsweep demo                                  # a zoo of mail servers, inside the process
  smtpsweep scan 192.0.2.0/24 -o mail.csv         # sweep a network into a spreadsheet
  smtpsweep scan mx:example.org                   # the mail servers of a domain
  smtpsweep trace mail.example.org                # at which hop port 25 is stopped
  smtpsweep egress                                # can mail leave this network?
  smtpsweep report last -o mail.xml               # the newest run again, in another format
  smtpsweep explain "554 5.7.1 Relay access denied"`,
		Version:       version(),
		Args:          cobra.ArbitraryArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(newScan(u), newEgress(u), newReflect(u), newTrace(u), newReport(u), newExplain(u), newDemo(u), newSelftest(u), newVersion(u))
	root.SetUsageTemplate(strings.NewReplacer(
		"FlagUsages ", "FlagUsagesWrapped 100 ",
		"{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}", "{{if not .Runnable}}\n  {{.CommandPath}} COMMAND{{end}}",
	).Replace(root.UsageTemplate()))
	root.SetHelpTemplate(root.HelpTemplate() + exitHelp + "\n")
	root.SetFlagErrorFunc(flagError)
	return root
}

// unknownCommand explains a first word that is no command; a target there is
// the commonest slip.
func unknownCommand(root *cobra.Command, word string) error {
	err := fail(exitUsage, "%q is not a command", clip(word))
	if strings.ContainsAny(word, ".:/") {
		return withHint(err, fmt.Sprintf("to find its mail ports: smtpsweep scan %s", clip(word)))
	}
	var names []string
	for _, cmd := range root.Commands() {
		names = append(names, cmd.Name())
	}
	hint := "smtpsweep --help lists the commands"
	if near := nearest(names, word); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return withHint(err, hint)
}

// noArgs refuses words after a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return withHint(fail(exitUsage, "%s takes no targets or files, and %q was given", cmd.Name(), clip(args[0])), cmd.CommandPath()+" --help lists its flags")
}

// flagError turns pflag's errors into ours.
func flagError(cmd *cobra.Command, err error) error {
	hint := cmd.CommandPath() + " --help lists the flags"
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := nearest(names, unknown.GetSpecifiedName()); near != "" {
			hint = "did you mean --" + near + "? " + hint
		}
	}
	return withHint(fail(exitUsage, "%s", flagMessage(err)), hint)
}

// nearest returns the name that a mistyped one most likely means, or "": one
// that begins with it, or is at most two edits away.
func nearest(names []string, typed string) string {
	best, least := "", 3
	for _, name := range names {
		n := edits(name, typed)
		if len(typed) > 2 && strings.HasPrefix(name, typed) {
			n = 1
		}
		if n < least && n < len(typed) {
			best, least = name, n
		}
	}
	return best
}

// edits is the number of letters to add, drop or change between two words
// (Levenshtein's distance).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// flagMessage says in our words what is wrong with a flag: pflag's own quote
// the names of Go's functions.
func flagMessage(err error) string {
	var value *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	var unknown *pflag.NotExistError
	var number *strconv.NumError
	switch {
	case errors.As(err, &value):
		why := value.Unwrap().Error()
		if errors.As(err, &number) && value.GetFlag().Value.Type() == "bool" {
			why = "true or false is wanted"
		} else if errors.As(err, &number) {
			why = "a whole number from 0 to 18446744073709551615 is wanted"
		}
		return fmt.Sprintf("--%s %q: %s", value.GetFlag().Name, clip(value.GetValue()), why)
	case errors.As(err, &missing):
		return fmt.Sprintf("--%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return fmt.Sprintf("there is no flag -%s (in %q)", unknown.GetSpecifiedName(), clip("-"+unknown.GetSpecifiedShortnames()))
	case errors.As(err, &unknown):
		return "there is no flag --" + clip(unknown.GetSpecifiedName())
	}
	return err.Error()
}

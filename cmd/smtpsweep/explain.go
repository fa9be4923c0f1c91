package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/explain"
)

func newExplain(u *ui) *cobra.Command {
	return &cobra.Command{
		Use:   "explain TEXT...",
		Short: "What an SMTP reply, an error, a bounce or a log line means, and what to do",
		Long: `Says what a line means, why it came, who can change it and how. TEXT is an SMTP
reply, an enhanced status code, an error of the network or of TLS, a bounce, a
line of a mail log, or a word of our own reports. "-" reads it from stdin.`,
		Example: `  smtpsweep explain "554 5.7.1 Relay access denied"
  smtpsweep explain admin-prohibited
  tail -1 /var/log/mail.log | smtpsweep explain -`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			return runExplain(u, args)
		},
	}
}

func runExplain(u *ui, args []string) error {
	text := strings.Join(args, " ")
	if text == "-" {
		in, err := io.ReadAll(io.LimitReader(u.in, explain.MaxInput))
		if err != nil {
			return fail(exitEnvironment, "stdin: %w", err)
		}
		text = string(in)
	}
	if strings.TrimSpace(text) == "" {
		return withHint(fail(exitUsage, "nothing to explain"), `smtpsweep explain "550 5.1.1 User unknown"`)
	}
	found := explain.Explain(text)
	if len(found) == 0 {
		return withHint(fail(exitBad, "this is not known: %q", report.Clean(clip(text))), "give the reply with its code (550 5.7.1 ...) or the words of the error alone")
	}
	for i, e := range found {
		if i > 0 {
			fmt.Fprintln(u.out)
		}
		if err := printExplanation(u.out, e, u.outWidth); err != nil {
			return err
		}
	}
	return nil
}

// printExplanation writes an explanation for a terminal of width columns, or 0.
func printExplanation(w io.Writer, e explain.Explanation, width int) error {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	fmt.Fprintf(&b, "%s\n", report.Clean(e.Recognised))
	const indent, command = len("  see it   "), explain.MaxInput // a command is copied: it stays one line
	prose := 100
	if width > 0 {
		prose = max(30, min(prose, width-indent))
	}
	part := func(label string, width int, lines ...string) {
		for _, line := range lines {
			if line != "" {
				fmt.Fprintf(&b, "  %-8s %s\n", label, wrap(report.Clean(line), width, strings.Repeat(" ", indent)))
				label = ""
			}
		}
	}
	part("means", prose, e.Means...)
	part("cause", prose, e.Cause...)
	part("do", prose, e.Do...)
	part("see it", command, e.See...)
	part("who", prose, e.Who)
	part("source", prose, e.Source)
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks prose at width columns.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	column := 0
	for i, w := range strings.Fields(text) {
		if i > 0 && column+1+len(w) > width {
			b.WriteString("\n" + indent)
			column = 0
		} else if i > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(w)
		column += len(w)
	}
	return b.String()
}

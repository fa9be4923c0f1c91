package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// TestEgressWatch switches a filter on and off between rounds: exactly the changes are printed.
func TestEgressWatch(t *testing.T) {
	t.Parallel()
	inCI(t)
	lab.RunPath(t, lab.PathConfig{Binary: true}, func(t *testing.T, p *lab.Path) {
		l := newEgressLab(t, p)
		rounds := lab.Count(t, 20, 20, 20)
		state := filepath.Join(l.folder, "watch")
		if err := os.Mkdir(state, 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(state, 0o777)
		journal := filepath.Join(state, "watch.jsonl")
		cmd := lab.Nobody(l.Command(lab.Scanner, lab.Binary(t), "egress", "-4", "--watch", "1s", "--timeout", "900ms", "--resolver", l.dns, "--ca", l.ca, "-o", journal))
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		drop := p.Filter(t, lab.Filter{At: lab.R2, Family: 4, Ports: []uint16{25}})
		drop.Off(t)
		var want []string
		on, last := false, ""
		for round := 1; round <= rounds; round++ {
			awaitRound(t, journal, round)
			word := wordOfRound(t, journal, round)
			if last != "" && word != last {
				want = append(want, last+" -> "+word)
			}
			last = word
			// A filter that is switched in the midst of a round makes of it what it does: what
			// counts is that what is printed is what the journal says.
			if round%2 == 1 {
				if on {
					drop.Off(t)
				} else {
					drop.On(t)
				}
				on = !on
			}
		}
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupt {
			t.Errorf("exit %v, want %d\n%s", err, exitInterrupt, errs.String())
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			if _, change, ok := strings.Cut(line, "Z  25 IPv4  "); ok {
				got = append(got, change)
			} else if strings.Contains(line, " -> ") {
				t.Errorf("a change that was none: %s", line)
			}
		}
		for i := range want {
			if i >= len(got) || !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("change %d: want %q of %q", i+1, want[i], got)
				break
			}
		}
		if len(got) > len(want)+1 || len(want) == 0 { // one more round may have ended before the signal
			t.Errorf("%d changes are printed, the journal has %d\n%s", len(got), len(want), out.String())
		}
		lab.Proof(t, "%d rounds, %d changes", rounds, len(want))
	})
}

// awaitRound waits until the verdicts of a round are in a journal.
func awaitRound(t *testing.T, journal string, round int) {
	t.Helper()
	for until := time.Now().Add(3 * time.Minute); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(journal)
		if bytes.Contains(text, fmt.Appendf(nil, `"round":%d,`, round)) && strings.Count(string(text), fmt.Sprintf(`"round":%d,"vantage":"%s"`, round, hostName())) >= 5 {
			return
		}
	}
	t.Fatalf("round %d did not end", round)
}

func hostName() string {
	name, _ := os.Hostname()
	return name
}

// wordOfRound returns what a round concluded of port 25, as changes say it.
func wordOfRound(t *testing.T, journal string, round int) string {
	t.Helper()
	text, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var v egress.Verdict
		if !bytes.HasPrefix(line, []byte(`{"type":"verdict"`)) || json.Unmarshal(line, &v) != nil || v.Round != round || v.Port != 25 {
			continue
		}
		if v.How != "" {
			return fmt.Sprintf("%s (%s)", v.Word, v.How)
		} else if v.Cause != "" {
			return fmt.Sprintf("%s (%s)", v.Word, v.Cause)
		}
		return string(v.Word)
	}
	t.Fatalf("no verdict on 25 in round %d", round)
	return ""
}

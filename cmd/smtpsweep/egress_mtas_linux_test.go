package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// TestEgressRaisesNoFalseAlarm asks Postfix, Exim and Sendmail over a clean path, again and
// again: nothing is ever said to be intercepted, downgraded or blocked.
func TestEgressRaisesNoFalseAlarm(t *testing.T) {
	t.Parallel()
	runs := lab.Count(t, 0, 30, 1000)
	if runs == 0 {
		t.Skip("it takes real mail servers and a while: .ci/run and .ci/long")
	}
	var hosts []string
	servers := slices.DeleteFunc(mailServers(), func(s *mailServer) bool {
		return s.name != "postfix" && s.name != "exim" && s.name != "sendmail"
	})
	for _, s := range servers {
		hosts = append(hosts, s.name)
		s.needed(t)
	}
	systemProgram(t, "chroot")
	lab.Run(t, lab.Config{Hosts: hosts, Binary: true}, func(t *testing.T, l *lab.Lab) {
		mountRoots(t)
		t.Cleanup(func() { nothingRuns(t) })
		ca := newTestCA(t)
		zone, names := scannertest.DNSZone{}, []string(nil)
		for _, s := range servers {
			startServer(t, l, ca, s)
			addr4, addr6 := l.HostAddrs(s.name)
			zone[s.host()] = []string{"A " + addr4.String()}
			if l.IPv6() {
				zone[s.host()] = append(zone[s.host()], "AAAA "+addr6.String())
			}
			names = append(names, s.host()+":25,465,587")
		}
		for _, s := range servers {
			awaitListening(t, l, s)
		}
		dir := t.TempDir()
		pem := filepath.Join(dir, "ca.pem")
		if err := os.WriteFile(pem, []byte(ca.pem), 0o600); err != nil {
			t.Fatal(err)
		}
		dns := scannertest.DNS(t, zone).String()
		journals := make([][]byte, runs)
		var group errgroup.Group
		group.SetLimit(3) // Exim takes 20 connections at a time (smtp_accept_max)
		for i := range runs {
			group.Go(func() error {
				path := filepath.Join(dir, fmt.Sprintf("%d.jsonl", i))
				cmd := l.Command(lab.Scanner, lab.Binary(t), append([]string{"egress", "--timeout", "600ms", "--ca", pem, "--resolver", dns, "-o", path}, names...)...)
				cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir)
				cmd.Run() // the journal tells
				var err error
				journals[i], err = os.ReadFile(path)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		verdicts := 0
		for i, text := range journals {
			for line := range bytes.Lines(text) {
				var v egress.Verdict
				if !bytes.HasPrefix(line, []byte(`{"type":"verdict"`)) {
					continue
				}
				if err := json.Unmarshal(line, &v); err != nil {
					t.Fatal(err)
				}
				verdicts++
				if v.Bad() || len(v.Findings) > 0 || v.Port == 25 && v.Word != egress.Allowed {
					t.Errorf("run %d: %d of %s is %s %s %s %v %v", i, v.Port, v.Family, v.Word, v.How, v.Cause, v.Findings, v.Evidence)
				}
			}
		}
		lab.Proof(t, "%d runs, %d verdicts", runs, verdicts)
		if verdicts < 5*runs {
			t.Errorf("%d verdicts of %d runs", verdicts, runs)
		}
	})
}

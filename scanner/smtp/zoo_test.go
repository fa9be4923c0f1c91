package smtp_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

// talk lets a prober and a server of the zoo have one conversation.
func talk(t *testing.T, p *smtp.Prober, z *scannertest.Zoo, b scannertest.Behaviour, named bool, conn, theirs net.Conn) scanner.Result {
	var wg sync.WaitGroup
	wg.Go(func() { z.ServeConn(theirs, b) })
	defer wg.Wait()
	defer conn.Close()
	addr := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	obs := scanner.Observation{
		Target: targets.Target{Addr: addr.Addr(), Port: addr.Port(), Role: b.Role},
		State:  scanner.Open, Connected: time.Now(),
	}
	if named {
		obs.Target.From = &targets.Origin{Spec: scannertest.Host, Host: scannertest.Host}
	}
	svc := p.Probe(t.Context(), conn, &obs)
	return scanner.Result{Observation: obs, Service: svc}
}

func TestEveryAnimalOfTheZooIsSeenForWhatItIs(t *testing.T) {
	z, err := scannertest.Start(context.Background(), scannertest.Config{
		GreetPause: 300 * time.Millisecond, Drip: 20 * time.Millisecond, Turn: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	meetAll := func(p *smtp.Prober, some func(scannertest.Behaviour) bool) {
		var wg sync.WaitGroup
		defer wg.Wait()
		for _, b := range scannertest.Behaviours() {
			for _, named := range []bool{false, true} {
				if !some(b) {
					continue
				}
				conn, theirs := loopback(t)
				wg.Go(func() {
					r := talk(t, p, z, b, named, conn, theirs)
					if words := notPlain(r.Service); words != "" {
						t.Errorf("%s: not in plain words: %q", b.Name, words)
					}
					want := z.Want(b)
					if diff := want.Diff(r, named); diff != nil {
						t.Errorf("%s (named %t): %s\nerror: %s\n%s", b.Name, named, strings.Join(diff, "; "), r.Service.Err, transcript(r.Service))
					}
				})
			}
		}
	}
	// Nobody but those who are waited for in vain gets little time: the machine
	// may be slow.
	inVain := func(b scannertest.Behaviour) bool {
		return slices.Contains([]string{"mute", "mute-smtps", "tarpit", "deaf", "tls-stalled", "tls-half", "line-by-line", "bare-cr"}, b.Name)
	}
	hasty := &smtp.Prober{Helo: "client.example.org", Roots: z.Roots(), Deadline: 4 * time.Second}
	patient := &smtp.Prober{Helo: "client.example.org", Roots: z.Roots()}
	meetAll(hasty, inVain)
	meetAll(patient, func(b scannertest.Behaviour) bool { return !inVain(b) })
	if c := z.Counts(); c.Rude() != 0 {
		t.Errorf("breaches of etiquette: %+v", c)
	}
}

// notPlain returns what we say of a server in the words of Go's libraries, or "".
func notPlain(s *scanner.Service) string {
	said := []string{s.Err}
	if s.TLS != nil {
		said = append(said, s.TLS.Err, s.TLS.Note)
	}
	for _, text := range said {
		for _, word := range []string{"tls: ", "x509: ", "local error", "remote error", "EOF", "i/o timeout", "%!"} {
			if strings.Contains(text, word) {
				return text
			}
		}
	}
	return ""
}

// transcript writes a conversation as people read it.
func transcript(s *scanner.Service) string {
	var b strings.Builder
	for _, line := range s.Transcript {
		b.WriteString(string(line.From) + ": " + string(line.Text[:min(len(line.Text), 120)]) + "\n")
	}
	return b.String()
}

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/egress/reflect"
)

// A reflector is the far end that --reflector names.
type reflector struct {
	host string
	pin  reflect.Pin
	idle []time.Duration
}

// mostIdle bounds how long a session is held without a word.
const mostIdle = time.Hour

// reflector reads --reflector and --idle; nil if there is none.
func (f *egressFlags) reflectorEnd() (*reflector, error) {
	if f.reflector == "" {
		if len(f.idle) > 0 || f.reverse {
			return nil, withHint(fail(exitUsage, "--idle and --reverse need a far end of your own"), "--reflector HOST#FINGERPRINT names it; smtpsweep reflect, run there, prints it")
		}
		return nil, nil
	}
	host, pin, err := reflect.ParseReflector(f.reflector)
	if err != nil {
		return nil, withHint(fail(exitUsage, "--reflector %s: %w", clip(f.reflector), err), "smtpsweep reflect prints the line to paste")
	}
	r := &reflector{host: strings.TrimSuffix(strings.ToLower(host), "."), pin: pin}
	for _, list := range f.idle {
		for text := range strings.SplitSeq(list, ",") {
			d := seconds{min: time.Second, max: mostIdle}
			if err := d.Set(strings.TrimSpace(text)); err != nil {
				return nil, fail(exitUsage, "--idle %s: %w", clip(text), err)
			}
			r.idle = append(r.idle, d.d)
		}
	}
	return r, nil
}

// A reflected is the journal's "reflect" record: a session with the reflector.
type reflected struct {
	Round   int    `json:"round,omitempty"`
	Vantage string `json:"vantage"`
	Family  int    `json:"family"`
	Port    uint16 `json:"port"`
	*reflect.Report
}

// farRows are what sessions with the reflector were as connections.
type farRows struct {
	mu      sync.Mutex // guards following
	results []scanner.Result
	proven  string // fingerprint of the reflector, if it was reached on some port
}

// add adds a session.
func (r *farRows) add(a *audit, v *vantage, to egress.FarEnd, found *reflect.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, a.reflectedResult(v, to, found))
	if found.Proven {
		r.proven = a.far.pin.String()
	}
}

// reflect holds a session with the reflector, and reads what it shows.
func (a *audit) reflect(v *vantage, round int, reverseAt egress.FarEnd, rows *farRows) func(context.Context, egress.FarEnd) (egress.Reflection, error) {
	return func(ctx context.Context, to egress.FarEnd) (r egress.Reflection, err error) {
		o := reflect.Options{Source: v.source, ImplicitTLS: reflect.ImplicitTLS(to.Port), Helo: a.f.heloName(), Idle: a.far.idle, LongLine: true}
		if a.f.reverse && to == reverseAt {
			o.Reverse = []uint16{25, 465, 587}
		}
		found, err := reflect.Probe(ctx, netip.AddrPortFrom(to.Addr, to.Port), a.far.pin, o)
		if err != nil {
			return r, fmt.Errorf("the session with the reflector on port %d: %w", to.Port, err)
		}
		rows.add(a, v, to, found)
		a.writer.Put("reflect", reflected{round, v.name, int(egress.FamilyOf(to.Addr)), to.Port, found}) // an error is sticky
		return reflectionOf(to, found), nil
	}
}

// reflectionOf reads a report of package reflect.
func reflectionOf(to egress.FarEnd, found *reflect.Report) egress.Reflection {
	r := egress.Reflection{FarEnd: to, Proven: found.Proven, Stopped: found.Has(reflect.Blocked) && !found.Proven}
	if found.Summary != nil {
		r.Public = found.Summary.Source.Addr().Unmap().String()
	}
	for _, c := range found.Conclusions {
		text := "reflector: " + report.Clean(c.Text)
		switch {
		case c.Code == reflect.Blocked && !found.Proven, c.Code == reflect.NAT, c.Code == reflect.Intact:
			r.Facts = append(r.Facts, text)
		default:
			r.Findings = append(r.Findings, egress.Finding{Code: c.Code, Evidence: []string{text}})
		}
	}
	for _, q := range found.Idle {
		if q.Outlived {
			r.Facts = append(r.Facts, fmt.Sprintf("reflector: %.0f s of silence pass", q.Asked))
		}
	}
	for _, b := range found.Reverse {
		said := fmt.Sprintf("reflector: our own port %d is %s from outside", b.Port, report.Clean(b.State))
		if len(b.Greeting) > 0 {
			said += fmt.Sprintf(": %q", report.CleanBytes(b.Greeting))
		}
		r.Facts = append(r.Facts, said)
	}
	if found.ReverseError != "" {
		r.Facts = append(r.Facts, "reflector: our own ports were not looked at: "+report.Clean(found.ReverseError))
	}
	return r
}

// reverseAt chooses the session in which our own ports are asked for: on the port that
// is the likeliest to work.
func reverseAt(plan *egress.Plan) egress.FarEnd {
	for _, port := range []uint16{587, 465, 2525, 25} {
		if i := slices.IndexFunc(plan.Far, func(f egress.FarEnd) bool { return f.Port == port }); i >= 0 {
			return plan.Far[i]
		}
	}
	return egress.FarEnd{}
}

package journal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/smtpsweep/smtpsweep/targets"
)

// FuzzRecover goes on with a run whose journal has any records, with right
// checksums, behind its plan, and any tail without: it is recovered or an error
// of the known kinds, and nothing counts as done that the plan does not have.
func FuzzRecover(f *testing.F) {
	plan := planOf(f, "192.0.2.0/28", "[2001:db8::1]:25", "mail.example.org")
	silent := `{"type":"silent","time":"2026-01-02T03:04:05.678Z","from":1,"to":9,"except":[2,3],"attempts":4}`
	first := rowOf(plan.At(0), "open", "syn-ack")
	f.Add(first, []byte(nil))
	f.Add(bytes.Join([][]byte{first, []byte(silent), first}, []byte("\n")), []byte(`{"type":"result",`))
	f.Add(rowOf(plan.At(1), "unknown", "local-error"), []byte("\x00\x00\x00"))
	f.Add([]byte(`{"type":"answer","name":"mail.example.org","hosts":[{"host":"mail.example.org","addrs":["192.0.2.1"]}]}`), []byte("\n"))
	f.Add([]byte(`{"type":"result","target":"mail.example.org","host":"mail.example.org","address":"192.0.2.1","port":25,"state":"open","reason":"syn-ack"}`), []byte("{}\n"))
	f.Add([]byte(`{"type":"silent","from":0,"to":18446744073709551615}`), []byte(nil))
	f.Add([]byte(`{"type":"end","reason":"interrupted","totals":{"rows":1}}`), []byte(nil))
	f.Add([]byte(`{"type":"plan","part":"ranges","family":"4","ranges":"@0.0 0:1"}`), []byte(nil))
	run, err := Encode("run", Run{Schema: Schema, PlanHash: plan.Hash(), Seed: plan.Seed(), Endpoints: plan.Len(), Names: plan.NameCount()})
	if err != nil {
		f.Fatal(err)
	}
	head := [][]byte{run}
	for record := range plan.Records() {
		head = append(head, bytes.Clone(record))
	}
	f.Fuzz(func(t *testing.T, records, tail []byte) {
		var content []byte
		for _, record := range head {
			content = AppendLine(content, record)
		}
		for record := range bytes.SplitSeq(records, []byte("\n")) {
			if len(record) > 0 {
				content = AppendLine(content, record)
			}
		}
		content = append(content, tail...)
		r, err := newReader("x", inMemory{bytes.NewReader(content)}, int64(len(content)), false)
		if err != nil {
			t.Fatalf("the run record is not read: %v", err)
		}
		c, err := r.recover(targets.Config{AllowReserved: true})
		var damage *DamageError
		if err != nil {
			if !errors.As(err, &damage) && !errors.Is(err, ErrPlan) && !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrSchema) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if c.TornAt > int64(len(content)) {
			t.Errorf("the journal ends at %d of %d", c.TornAt, len(content))
		}
		done, counted := c.Done.Len(), uint64(0)
		for _, n := range c.Counts {
			counted += n
		}
		if done > plan.Len() || counted < done || c.Rows < counted {
			t.Errorf("%d of %d done, %d counted, %d rows", done, plan.Len(), counted, c.Rows)
		}
	})
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// parts are what selftest looks at, as this binary has them. A test breaks one
// after the other, and sees that it is found out.
type parts struct {
	at     func(targets.Order, uint64) uint64
	pos    func(targets.Order, uint64) (uint64, bool)
	index  func(*targets.Plan, netip.Addr, uint16) (uint64, bool)
	frame  func(dst, rec []byte) []byte
	open   func(path string) (*journal.Reader, error)
	resume func(path string, cfg targets.Config) (*journal.Writer, *journal.Recovered, error)
	parse  func(line []byte) (report.Row, error)
	clean  func(string) string
	csv    func(io.Writer, report.Header, report.Options) (report.Encoder, error)
}

func shipped() parts {
	csv, _ := report.Lookup("csv") // without it, New is nil, and the test of it fails
	return parts{
		at: targets.Order.At, pos: targets.Order.Pos, index: (*targets.Plan).Index,
		frame: journal.AppendLine, open: journal.Open, resume: journal.Resume,
		parse: report.ParseRow, clean: report.Clean, csv: csv.New,
	}
}

// A soundness is one thing that selftest asks of the binary.
type soundness struct {
	name string
	test func(*parts) error
}

var soundnesses = []soundness{
	{"order: every endpoint once, and back", (*parts).testOrder},
	{"order: the same as in every other binary", (*parts).testSameOrder},
	{"shards: together every endpoint once", (*parts).testSharding},
	{"journal: checksum vectors", (*parts).testChecksum},
	{"journal: a torn tail is dropped, a flipped bit is found", (*parts).testDamage},
	{"journal: a run that was cut short goes on where it was", (*parts).testResume},
	{"rows: written and read again alike", (*parts).testRoundTrip},
	{"cleaning: nothing unprintable passes", (*parts).testCleaning},
	{"cleaning: formulas are inert in CSV", (*parts).testFormulas},
}

func newSelftest(u *ui) *cobra.Command {
	return &cobra.Command{
		Use:     "selftest",
		Short:   "Is this binary sound? order, shards, checksums, journal recovery, cleaning",
		Example: "  smtpsweep selftest && echo sound",
		Hidden:  true,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return runSelftest(u, shipped())
		},
	}
}

func runSelftest(u *ui, p parts) error {
	bad := 0
	for _, s := range soundnesses {
		word := "ok    "
		err := s.test(&p)
		if err != nil {
			word, bad = "FAILED", bad+1
		}
		if _, writeErr := fmt.Fprintf(u.out, "%s %s\n", word, s.name); writeErr != nil {
			return writeErr
		}
		if err != nil {
			u.say("       %s", err)
		}
	}
	if bad > 0 {
		return fail(exitEnvironment, "%d of %d checks failed: do not trust this binary", bad, len(soundnesses))
	}
	return nil
}

// selftestPlan returns a plan of n addresses, two ports each.
func selftestPlan(n int) (*targets.Plan, error) {
	b := targets.NewBuilder(targets.Config{Ports: []targets.Port{{Number: 25}, {Number: 465, Role: targets.SMTPS}}})
	if err := b.Add(fmt.Sprintf("10.0.0.0-10.0.%d.%d", (n-1)/256, (n-1)%256)); err != nil {
		return nil, err
	}
	return b.Build(uint64(n))
}

// awkward are sizes of plans around which an order may go wrong.
var awkward = []int{1, 2, 3, 7, 255, 256, 257, 1000, 4099}

func (p *parts) testOrder() error { return p.testShards(1) }

func (p *parts) testSharding() error { return p.testShards(2, 3, 64) }

// testShards walks plans of awkward sizes in numbers of shards.
func (p *parts) testShards(numbers ...uint64) error {
	for _, n := range awkward {
		plan, err := selftestPlan(n)
		if err != nil {
			return err
		}
		for _, shards := range numbers {
			if err := p.walk(plan, shards); err != nil {
				return fmt.Errorf("%d addresses, %d shards: %w", n, shards, err)
			}
		}
	}
	return nil
}

func (p *parts) walk(plan *targets.Plan, shards uint64) error {
	seen := make([]bool, plan.Len())
	for i := uint64(1); i <= shards; i++ {
		shard := targets.Shard{I: i, N: shards}
		order := plan.Order(shard)
		for pos := uint64(0); pos < order.Len(); pos++ {
			index := p.at(order, pos)
			if index >= plan.Len() || seen[index] || !shard.Owns(index) {
				return fmt.Errorf("index %d comes twice or is outside", index)
			}
			seen[index] = true
			if back, ok := p.pos(order, index); !ok || back != pos {
				return fmt.Errorf("position %d leads to index %d, which leads back to %d", pos, index, back)
			}
			t := plan.At(index)
			if again, ok := p.index(plan, t.Addr, t.Port); !ok || again != index {
				return fmt.Errorf("%s is index %d and %d", t.AddrPort(), index, again)
			}
		}
	}
	for index, ok := range seen {
		if !ok {
			return fmt.Errorf("index %d never comes", index)
		}
	}
	return nil
}

// testSameOrder compares an order with what it is by definition (targets/permute.go):
// shards of one run, and runs that are gone on with, may come from two binaries.
func (p *parts) testSameOrder() error {
	plan, err := selftestPlan(1000)
	if err != nil {
		return err
	}
	var got []uint64
	order := plan.Order(targets.Shard{I: 2, N: 3})
	for pos := range uint64(len(selftestOrder)) {
		got = append(got, p.at(order, pos))
	}
	if !slices.Equal(got, selftestOrder) {
		return fmt.Errorf("it begins %v, want %v", got, selftestOrder)
	}
	return nil
}

var selftestOrder = []uint64{775, 349, 403, 1312, 544, 1756}

// checksums are of 32 zeros, 32 bytes of ones, 32 bytes counted up and down
// (RFC 3720, B.4), and the check value of the catalogues, for "123456789".
var checksums = []struct{ text, crc string }{
	{string(make([]byte, 32)), "8a9136aa"},
	{strings.Repeat("\xff", 32), "62a8ab43"},
	{"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f", "46dd794e"},
	{"\x1f\x1e\x1d\x1c\x1b\x1a\x19\x18\x17\x16\x15\x14\x13\x12\x11\x10\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08\x07\x06\x05\x04\x03\x02\x01\x00", "113fdb5c"},
	{"123456789", "e3069283"},
}

// testChecksum compares checksums with the vectors, as lines are written, and
// reads a journal that was made by hand.
func (p *parts) testChecksum() error {
	for _, v := range checksums {
		line := p.frame(nil, []byte(v.text+"}"))
		if want := v.text + `,"crc":"` + v.crc + `"}` + "\n"; string(line) != want {
			return fmt.Errorf("the line is %q, want %q", line, want)
		}
	}
	path, remove, err := tempJournal([]byte(`{"type":"run","schema":1,"seed":"0","crc":"461d58ef"}` + "\n"))
	if err != nil {
		return err
	}
	defer remove()
	r, err := p.open(path)
	if err != nil {
		return err
	}
	return r.Close()
}

// testDamage writes a journal, tears its tail, and flips a bit in it.
func (p *parts) testDamage() error {
	path, remove, err := tempJournal(nil)
	if err != nil {
		return err
	}
	defer remove()
	if err := writeNotes(path); err != nil {
		return err
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n, err := p.countNotes(path, whole[:len(whole)-7]); err != nil || n != 100 {
		return fmt.Errorf("a torn tail: %d notes of 100, %v", n, err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	var damage *journal.DamageError
	if _, err := p.countNotes(path, flipped); !errors.As(err, &damage) {
		return fmt.Errorf("a flipped bit is not found: %v", err)
	}
	return nil
}

// writeNotes writes a journal of 100 notes in the place of a file.
func writeNotes(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	w, err := journal.Create(path, journal.Run{Started: time.Now()})
	if err != nil {
		return err
	}
	for i := range 100 {
		w.Note("selftest", fmt.Sprint("note ", i))
	}
	return errors.Join(w.Finish(journal.End{Reason: endDone}), w.Close())
}

// testResume writes a journal of some endpoints of a plan, tears the last row,
// and goes on with it twice: the second time there are the first's rows, too.
func (p *parts) testResume() error {
	plan, err := selftestPlan(100)
	if err != nil {
		return err
	}
	path, remove, err := tempJournal(nil)
	if err != nil {
		return err
	}
	defer remove()
	if err := writeRows(path, plan, 50); err != nil {
		return err
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	torn := bytes.LastIndex(whole, []byte(`{"type":"result"`)) + 20
	if err := os.WriteFile(path, whole[:torn], 0o600); err != nil {
		return err
	}
	for _, done := range []uint64{49, 50} { // the torn row is the 50th
		w, rec, err := p.resume(path, targets.Config{})
		if err != nil {
			return err
		}
		defer w.Close()
		if rec.Plan == nil || rec.Plan.Hash() != plan.Hash() {
			return errors.New("the plan differs after it was written and read")
		}
		for pos := range plan.Len() {
			if rec.Done.Contains(pos) != (pos < done) {
				return fmt.Errorf("after %d rows position %d counts as done: %v", done, pos, rec.Done.Contains(pos))
			}
		}
		if err := errors.Join(w.Append(selftestRow(plan, done)), w.Close()); err != nil {
			return err
		}
	}
	return nil
}

// writeRows writes a journal of a plan in the place of a file, with the rows of
// the first positions of its order.
func writeRows(path string, plan *targets.Plan, rows uint64) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	w, err := journal.Create(path, journal.Run{Started: time.Now(), Seed: plan.Seed(), PlanHash: plan.Hash()})
	if err != nil {
		return err
	}
	for record := range plan.Records() {
		w.Append(record) // an error is sticky: Close returns it
	}
	w.Sync()
	for pos := range rows {
		w.Append(selftestRow(plan, pos))
	}
	return w.Close()
}

// selftestRow is the row of a closed port, at a position of a plan's order.
func selftestRow(plan *targets.Plan, pos uint64) []byte {
	return report.AppendResult(nil, &scanner.Result{Observation: scanner.Observation{
		Target: plan.At(plan.Order(targets.Shard{}).At(pos)), State: scanner.Closed, Reason: scanner.ConnRefused, At: time.Unix(1e9, 0), Attempts: 1,
	}}, "here")
}

// tempJournal writes a file in a folder of its own.
func tempJournal(content []byte) (path string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "smtpsweep-selftest-*")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "run.jsonl")
	return path, func() { os.RemoveAll(dir) }, os.WriteFile(path, content, 0o600)
}

func (p *parts) countNotes(path string, content []byte) (int, error) {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return 0, err
	}
	r, err := p.open(path)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n := 0
	for rec, err := range r.Records() {
		if err != nil {
			return n, err
		}
		if rec.Type == "note" {
			n++
		}
	}
	return n, nil
}

// hostileText is what strangers send: escapes, C1, bidi overrides, NUL, bad UTF-8.
const hostileText = "\x1b]0;x\a\x9b2J\u202e\u2066\x00\xff\xfe=cmd|' /C calc'!A0<script>]]>\u2028\r\n"

// hostileResult is a result full of it.
func hostileResult() *scanner.Result {
	return &scanner.Result{Observation: scanner.Observation{
		State: scanner.Open, Reason: scanner.SynAck, At: time.Unix(1e9, 0), Attempts: 1,
	}, Service: &scanner.Service{
		Kind: scanner.KindSMTP, Banner: []byte(hostileText), Code: 220, Software: "=1+1", EHLO: []string{"SIZE 1", hostileText},
	}}
}

func (p *parts) testRoundTrip() error {
	row := report.RowOf(hostileResult(), "here")
	again, err := p.parse(row.AppendJSON(nil))
	if err != nil {
		return err
	}
	if again.Cells != row.Cells {
		return errors.New("a row differs after it was written and read")
	}
	return nil
}

func (p *parts) testCleaning() error {
	clean := p.clean(hostileText)
	for _, r := range clean {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return fmt.Errorf("%q passes", r)
		}
	}
	if p.clean(clean) != clean {
		return errors.New("cleaning twice differs from cleaning once")
	}
	if got, want := p.clean("a\x1b[2J\xff\u202eb"), `a\x1b[2J\xff\u{202e}b`; got != want {
		return fmt.Errorf("%q becomes %q, want %q", "a\x1b[2J\xff\u202eb", got, want)
	}
	return nil
}

// testFormulas writes a row whose software is a formula.
func (p *parts) testFormulas() error {
	if p.csv == nil {
		return errors.New("there is no CSV")
	}
	var out bytes.Buffer
	e, err := p.csv(&out, report.Header{}, report.Options{})
	if err != nil {
		return err
	}
	row := report.RowOf(hostileResult(), "here")
	if err := errors.Join(e.Row(&row), e.Close(report.Totals{})); err != nil {
		return err
	}
	if text := out.String(); !strings.Contains(text, "=1+1") || strings.Contains(text, ",=") || strings.Contains(text, `,"=`) {
		return fmt.Errorf("a cell begins with a formula, or is lost: %q", text)
	}
	return nil
}

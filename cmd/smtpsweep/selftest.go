package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A soundness is one thing that selftest asks of the binary.
type soundness struct {
	name string
	test func() error
}

var soundnesses = []soundness{
	{"order: every endpoint once, in every shard", testOrder},
	{"journal: checksum vector", testChecksum},
	{"journal: a torn tail is dropped, a flipped bit is found", testRecovery},
	{"rows: written and read again alike", testRoundTrip},
	{"cleaning: nothing unprintable passes", testCleaning},
}

func newSelftest(u *ui) *cobra.Command {
	return &cobra.Command{
		Use:     "selftest",
		Short:   "Is this binary sound? order, checksums, journal recovery, cleaning",
		Example: "  smtpsweep selftest && echo sound",
		Hidden:  true,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return runSelftest(u)
		},
	}
}

func runSelftest(u *ui) error {
	bad := 0
	for _, s := range soundnesses {
		word := "ok    "
		err := s.test()
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

// testOrder walks plans of awkward sizes, whole and in shards.
func testOrder() error {
	for _, n := range []int{1, 2, 3, 7, 255, 256, 257, 1000, 4099} {
		b := targets.NewBuilder(targets.Config{Ports: []targets.Port{{Number: 25}, {Number: 465, Role: targets.SMTPS}}})
		if err := b.Add(fmt.Sprintf("10.0.0.0-10.0.%d.%d", (n-1)/256, (n-1)%256)); err != nil {
			return err
		}
		plan, err := b.Build(uint64(n))
		if err != nil {
			return err
		}
		for _, shards := range []uint64{1, 3, 64} {
			if err := testShards(plan, shards); err != nil {
				return fmt.Errorf("%d addresses, %d shards: %w", n, shards, err)
			}
		}
	}
	return nil
}

func testShards(plan *targets.Plan, shards uint64) error {
	seen := make([]bool, plan.Len())
	for i := uint64(1); i <= shards; i++ {
		order := plan.Order(targets.Shard{I: i, N: shards})
		for pos := uint64(0); pos < order.Len(); pos++ {
			index := order.At(pos)
			if index >= plan.Len() || seen[index] {
				return fmt.Errorf("index %d comes twice or is outside", index)
			}
			seen[index] = true
			if back, ok := order.Pos(index); !ok || back != pos {
				return fmt.Errorf("position %d leads to index %d, which leads back to %d", pos, index, back)
			}
			t := plan.At(index)
			if again, ok := plan.Index(t.Addr, t.Port); !ok || again != index {
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

// testChecksum compares a line of a journal with the line that its format
// demands: CRC-32C (RFC 3720, B.4) of the bytes before the checksum's key.
func testChecksum() error {
	const line = `{"type":"run","schema":1,"seed":"0","crc":"461d58ef"}` + "\n"
	path, remove, err := tempJournal([]byte(line))
	if err != nil {
		return err
	}
	defer remove()
	r, err := journal.Open(path)
	if err != nil {
		return err
	}
	return r.Close()
}

// testRecovery writes a journal, tears its tail, and flips a bit in it.
func testRecovery() error {
	dir, err := os.MkdirTemp("", "smtpsweep-selftest-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "run.jsonl")
	w, err := journal.Create(path, journal.Run{Started: time.Now()})
	if err != nil {
		return err
	}
	for i := range 100 {
		w.Note("selftest", fmt.Sprint("note ", i))
	}
	if err := errors.Join(w.Finish(journal.End{Reason: endDone}), w.Close()); err != nil {
		return err
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n, err := countNotes(path, whole[:len(whole)-7]); err != nil || n != 100 {
		return fmt.Errorf("a torn tail: %d notes of 100, %v", n, err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	var damage *journal.DamageError
	if _, err := countNotes(path, flipped); !errors.As(err, &damage) {
		return fmt.Errorf("a flipped bit is not found: %v", err)
	}
	return nil
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

func countNotes(path string, content []byte) (int, error) {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return 0, err
	}
	r, err := journal.Open(path)
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

func testRoundTrip() error {
	r := scanner.Result{Observation: scanner.Observation{
		State: scanner.Open, Reason: scanner.SynAck, At: time.Unix(1e9, 0), Attempts: 1,
	}, Service: &scanner.Service{Kind: scanner.KindSMTP, Banner: []byte(hostileText), Code: 220, EHLO: []string{"SIZE 1", hostileText}}}
	row := report.RowOf(&r, "here")
	again, err := report.ParseRow(row.AppendJSON(nil))
	if err != nil {
		return err
	}
	if again.Cells != row.Cells {
		return errors.New("a row differs after it was written and read")
	}
	return nil
}

func testCleaning() error {
	clean := report.Clean(hostileText)
	for _, r := range clean {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return fmt.Errorf("%q passes", r)
		}
	}
	if report.Clean(clean) != clean {
		return errors.New("cleaning twice differs from cleaning once")
	}
	return nil
}

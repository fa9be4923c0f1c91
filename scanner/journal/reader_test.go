package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/targets"
)

// frame returns records as lines.
func frame(records ...string) []byte {
	var out []byte
	for _, rec := range records {
		out = appendFrame(out, []byte(rec), checksum([]byte(rec)))
	}
	return out
}

// write writes a file and returns its name.
func write(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.jsonl")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const runRecord = `{"type":"run","schema":1,"started":"2026-01-02T03:04:05Z","seed":"7","endpoints":3}`

// count reads a journal and returns how many result records it has.
func count(t testing.TB, content []byte) (rows int, r *Reader, err error) {
	t.Helper()
	r, err = newReader("x.jsonl", inMemory{bytes.NewReader(content)}, int64(len(content)), false)
	if err != nil {
		return 0, nil, err
	}
	for rec, err := range r.Records() {
		if err != nil {
			return rows, r, err
		}
		if rec.Type == "result" {
			if want := result(rows); !bytes.Equal(rec.Line, want) {
				t.Fatalf("row %d: got %s, want %s", rows, rec.Line, want)
			}
			rows++
		}
	}
	return rows, r, nil
}

func TestATornTailIsCutAtEveryByte(t *testing.T) {
	whole := frame(runRecord, string(result(0)))
	last := frame(string(result(1)))
	for n := range last {
		rows, r, err := count(t, append(bytes.Clone(whole), last[:n]...))
		if err != nil || rows != 1 {
			t.Fatalf("cut at %d: %d rows, %v", n, rows, err)
		}
		if at, torn := r.Truncated(); at != int64(len(whole)) || torn != int64(n) {
			t.Errorf("cut at %d: torn at %d, %d bytes; want %d, %d", n, at, torn, len(whole), n)
		}
	}
}

func TestAZeroFilledTailIsATornTail(t *testing.T) {
	whole := frame(runRecord, string(result(0)), string(result(1)))
	for _, zeros := range []int{1, 511, 4096, MaxRecord - 1, MaxRecord, 3*MaxRecord + 17} {
		for _, half := range []string{"", `{"type":"res`} {
			content := append(append(bytes.Clone(whole), half...), make([]byte, zeros)...)
			rows, r, err := count(t, content)
			at, torn := r.Truncated()
			if err != nil || rows != 2 || at != int64(len(whole)) || torn != int64(len(half)+zeros) {
				t.Errorf("%d zeros: %d rows, torn at %d, %d bytes, %v", zeros, rows, at, torn, err)
			}
		}
	}
}

func TestAFlippedBitIsFoundWhereItIs(t *testing.T) {
	w := started(t)
	for i := range 5 {
		w.Append(result(i))
	}
	w.Finish(End{Reason: "done"})
	w.Close()
	good, err := os.ReadFile(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	mark := bytes.LastIndex(good, []byte(syncPrefix)) // the last that says what is on the disk
	lines := bytes.SplitAfter(good, []byte("\n"))
	start := 0
	for n, line := range lines[:len(lines)-1] {
		for i := range line {
			bad := bytes.Clone(good)
			bad[start+i] ^= 1 << (i % 8)
			_, r, err := count(t, bad)
			var damage *DamageError
			switch {
			case start+i < mark-1: // a flip at mark-1 would make the mark a part of the bad line
				if !errors.As(err, &damage) || damage.Offset != int64(start) || damage.Line != n+1 {
					t.Fatalf("bit %d of byte %d of line %d: %v, want damage at %d", i%8, i, n+1, err, start)
				}
			case err == nil: // behind the last sync record: dropped, and said
				if at, torn := r.Truncated(); at > int64(start) || torn == 0 {
					t.Fatalf("byte %d of line %d: torn at %d, %d bytes", i, n+1, at, torn)
				}
			}
		}
		start += len(line)
	}
}

// A power cut may lose any sectors that were not synced, in any order.
func TestAPowerCutLosesNothingThatWasSynced(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for trial := range 200 {
		f := &fakeFile{}
		w := newWriter("x", f, 0)
		w.Put("run", Run{Schema: 1})
		n, durable := 1+rng.IntN(60), 0
		for i := range n {
			w.Append(result(i))
			switch rng.IntN(8) {
			case 0:
				w.Sync()
				durable = i + 1
			case 1:
				w.flush()
			}
		}
		w.flush()
		content := bytes.Clone(f.Bytes())
		for s := f.synced; s < len(content); s = s/512*512 + 512 {
			if rng.IntN(2) == 0 {
				clear(content[s:min(len(content), s/512*512+512)])
			}
		}
		content = content[:f.synced+rng.IntN(len(content)-f.synced+1)]
		if durable == 0 && !bytes.Contains(content, []byte("\n")) {
			continue // the run record was not promised
		}
		rows, _, err := count(t, content)
		if durable == 0 && errors.Is(err, ErrIncomplete) {
			continue
		}
		if err != nil || rows < durable || rows > n {
			t.Fatalf("trial %d: %d rows of %d, %d were synced: %v", trial, rows, n, durable, err)
		}
	}
}

func TestWhatIsNotAJournalIsSaid(t *testing.T) {
	for _, test := range []struct {
		name, content string
		is            error  // for errors.Is; nil: *DamageError
		says          string // part of the message
	}{
		{"empty", "", ErrIncomplete, "killed before it began"},
		{"zeros", string(make([]byte, 4096)), ErrIncomplete, "start again"},
		{"half a run record", runRecord[:40], ErrIncomplete, ""},
		{"newer schema", string(frame(`{"type":"run","schema":2}`)), ErrSchema, "schema 2"},
		{"no checksum", "{\"type\":\"run\",\"schema\":1}\n", nil, "no checksum"},
		{"somebody's list", "192.0.2.1\n192.0.2.2\n", nil, "not a journal"},
		{"no newline", "192.0.2.1", nil, "not a journal"},
		{"a result first", string(frame(string(result(0)))), nil, "not a run record"},
		{"edited", strings.Replace(string(frame(runRecord)), "7", "8", 1), nil, "checksum is wrong"},
		{"edited row", string(frame(runRecord)) + string(result(0)) + "\n", nil, "no checksum"},
		{"run is not an object we know", string(frame(`{"type":"run","schema":"x"}`)), nil, "run record"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := count(t, []byte(test.content))
			var damage *DamageError
			if test.is != nil && !errors.Is(err, test.is) || test.is == nil && !errors.As(err, &damage) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "x.jsonl") {
				t.Errorf("%q does not say %q", err, test.says)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a directory was opened")
	}
}

func TestALineThatIsTooLongIsDamageIfItWasSynced(t *testing.T) {
	head := frame(runRecord)
	long := append(bytes.Repeat([]byte("x"), 2*MaxRecord), '\n')
	content := append(bytes.Clone(head), long...)
	content = append(content, frame(fmt.Sprintf(`{"type":"sync","bytes":%d}`, len(content)))...)
	_, _, err := count(t, content)
	var damage *DamageError
	if !errors.As(err, &damage) || damage.Offset != int64(len(head)) || damage.Line != 2 {
		t.Errorf("got %v", err)
	}
}

func TestSalvageSkipsBadRecordsAndCountsThem(t *testing.T) {
	for _, bad := range []int{0, 2, 4} {
		lines := bytes.SplitAfter(frame(runRecord, string(result(0)), string(result(1)), string(result(2)), string(result(3))), []byte("\n"))
		lines[bad][20] ^= 1
		path := write(t, bytes.Join(lines, nil))
		r, err := OpenSalvage(path)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range r.Records() {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 4 || r.Skipped() != 1 || (r.Run().Seed == 7) != (bad != 0) {
			t.Errorf("line %d bad: %d records, %d skipped, run %+v", bad, n, r.Skipped(), r.Run())
		}
		r.Close()
	}
}

// Whatever bit flips, what is whole is a journal that a run goes on from, unless
// it was of the run record or the plan.
func TestWhatIsWholeOfADamagedJournalGoesOn(t *testing.T) {
	plan := planOf(t, "10.1.0.0/28", "mail.example.org", "mx:example.org")
	w := begun(t, plan, Run{})
	for _, a := range answers {
		w.Put("answer", a)
	}
	sweep(t, w, plan, targets.Shard{}, nil, 1000, nil)
	w.Finish(End{Reason: "done"})
	w.Close()
	good, err := os.ReadFile(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	want := wanted(plan, true)
	start := 0
	for n, line := range bytes.SplitAfter(good, []byte("\n")) {
		if len(line) == 0 {
			break
		}
		bad := bytes.Clone(good)
		bad[start+n*7%(len(line)-1)] ^= 1 << (n % 8)
		start += len(line)
		var copied bytes.Buffer
		lost, err := copySound(t, bad, &copied)
		if kind := recordType(line); kind == "run" || kind == "plan" {
			if err == nil || copied.Len() > 0 {
				t.Errorf("without a %s record: %v, %d bytes", kind, err, copied.Len())
			}
			continue
		}
		if err != nil || lost != 1 {
			t.Fatalf("line %d: %d lost, %v", n+1, lost, err)
		}
		w, rec, err := Resume(write(t, copied.Bytes()), targets.Config{AllowReserved: true})
		if err != nil {
			t.Fatalf("line %d: %v", n+1, err)
		}
		for name, a := range answers { // what was lost is asked for again
			i, _ := newNameIndex(plan).number(a.Name)
			if err := rec.Names.Put(i, answers[name]); err != nil {
				t.Fatal(err)
			}
		}
		sweep(t, w, plan, targets.Shard{}, rec, 1000, nil)
		w.Close()
		if got := folded(t, FoldOptions{}, w.Path()); !slices.Equal(got, want) && recordType(line) != "answer" { // an answer sorts MX hosts
			t.Fatalf("line %d: %d rows, want %d; first difference %s", n+1, len(got), len(want), difference(got, want))
		}
	}
}

func copySound(t *testing.T, content []byte, to *bytes.Buffer) (lost int, err error) {
	t.Helper()
	r, err := newReader("x.jsonl", inMemory{bytes.NewReader(content)}, int64(len(content)), true)
	if err != nil {
		t.Fatal(err)
	}
	return r.CopySound(to)
}

// A record whose checksum is right and that means nothing would end the next
// resume as well: it is left out.
func TestWhatMeansNothingIsNotCopied(t *testing.T) {
	plan := planOf(t, "10.1.0.0/28")
	w := begun(t, plan, Run{})
	w.Append([]byte(`{"type":"result","address":"nowhere","port":25}`))
	w.Append([]byte(`{"type":"silent","time":"2026-01-02T03:04:05Z","from":0,"to":5000,"except":[],"attempts":4}`))
	w.Append(rowOf(plan.At(0), "open", "syn-ack"))
	w.Close()
	content, _ := os.ReadFile(w.Path())
	var copied bytes.Buffer
	if lost, err := copySound(t, content, &copied); err != nil || lost != 2 {
		t.Errorf("%d lost, %v", lost, err)
	}
	w, rec, err := Resume(write(t, copied.Bytes()), targets.Config{})
	if err != nil || rec.Rows != 1 {
		t.Fatalf("%+v, %v", rec, err)
	}
	w.Close()
}

func TestAJournalCanBeReadWhileItIsWritten(t *testing.T) {
	w := started(t)
	w.Append(result(0))
	w.Sync()
	r, err := Open(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Append(result(1))
	w.Sync()
	for range 2 {
		n := 0
		for rec, err := range r.Records() {
			if err != nil {
				t.Fatal(err)
			}
			if rec.Type == "result" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d rows, want the one that was there when it was opened", n)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(frame(runRecord, string(result(0))))
	f.Add(frame(runRecord, `{"type":"silent","from":1,"to":3,"except":[2],"attempts":4}`))
	f.Add(frame(runRecord, `{"type":"answer","Name":"mx:example.org"}`))
	f.Add(append(frame(runRecord), make([]byte, 100)...))
	f.Add([]byte(runRecord))
	f.Add([]byte("\n\n,\"crc\":\"00000000\"}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, salvage := range []bool{false, true} {
			r, err := newReader("x", inMemory{bytes.NewReader(content)}, int64(len(content)), salvage)
			if err != nil {
				continue
			}
			for rec, err := range r.Records() {
				if err != nil {
					break
				}
				if len(rec.Line) < 2 || rec.Line[0] != '{' || rec.Line[len(rec.Line)-1] != '}' {
					t.Errorf("record %q", rec.Line)
				}
				if at := frame(string(rec.Line)); !bytes.HasPrefix(content[rec.Offset:], at) {
					t.Errorf("record %q is not at %d", rec.Line, rec.Offset)
				}
			}
		}
	})
}

// inMemory is a journal that is not in a file.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpsweep/smtpsweep/targets"
)

// fakeFile is a file in memory that notes what is done with it, and can fail.
type fakeFile struct {
	mu sync.Mutex
	bytes.Buffer
	ops    int   // writes, syncs and closes so far
	failAt int   // the operation that fails, from 1; 0 for none
	err    error // what it fails with
	after  int   // operations after the failure, close aside
	synced int   // bytes at the last sync
	onOp   func(op string)
}

func (f *fakeFile) op(name string) error {
	f.ops++
	if f.onOp != nil {
		f.onOp(name)
	}
	if f.failAt != 0 && f.ops > f.failAt && name != "close" {
		f.after++
	}
	if f.ops == f.failAt {
		return f.err
	}
	return nil
}

func (f *fakeFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.op("write"); err != nil {
		n, _ := f.Buffer.Write(p[:len(p)/2]) // a full disk takes a part
		return n, err
	}
	return f.Buffer.Write(p)
}

func (f *fakeFile) ReadAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.NewReader(f.Bytes()).ReadAt(p, at)
}

func (f *fakeFile) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.op("sync"); err != nil {
		return err
	}
	f.synced = f.Len()
	return nil
}

func (f *fakeFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.op("close")
}

// result returns a result record of the form that report writes.
func result(i int) []byte {
	return fmt.Appendf(nil, `{"type":"result","time":"2026-01-02T03:04:05.678Z","vantage":"here","target":"192.0.2.0/24","address":"192.0.2.%d","port":25,"state":"closed","reason":"conn-refused","rtt_ms":0.21,"attempts":1,"n":%d}`, i%256, i)
}

// started returns a journal with a run record in a temporary directory.
func started(t testing.TB) *Writer {
	t.Helper()
	w, err := Create(filepath.Join(t.TempDir(), "x.jsonl"), Run{Vantage: "here"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// readAll returns the records of a journal but sync records.
func readAll(t testing.TB, path string) []string {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []string
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Type != "sync" {
			all = append(all, string(rec.Line))
		}
	}
	return all
}

func TestRecordsComeBackAsTheyWereAppended(t *testing.T) {
	w := started(t)
	want := []string{`{"type":"result","a":1}`, `{"type":"verdict"}`, `{"type":"later","x":{"y":["}\""]}}`}
	for _, rec := range want {
		if err := w.Append([]byte(rec)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, w.Path())
	if len(got) != len(want)+1 || !strings.HasPrefix(got[0], `{"type":"run","schema":1,`) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if got[i+1] != want[i] {
			t.Errorf("record %d: got %s, want %s", i, got[i+1], want[i])
		}
	}
}

func TestALineEndsWithTheChecksumOfWhatIsBeforeIt(t *testing.T) {
	w := started(t)
	w.Append(result(1))
	w.Close()
	all, err := os.ReadFile(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(all) {
		i := bytes.LastIndex(line, []byte(`,"crc"`))
		sum := crc32.Checksum(line[:i], crc32.MakeTable(crc32.Castagnoli))
		if got, want := string(line[i:]), fmt.Sprintf(",\"crc\":\"%08x\"}\n", sum); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRowsReachTheKernelWithin100MsAndTheDiskWithin1S(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFile{}
		times := map[string][]time.Duration{}
		begin := time.Now()
		f.onOp = func(op string) { times[op] = append(times[op], time.Since(begin)) }
		done := func(op string) []time.Duration {
			f.mu.Lock()
			defer f.mu.Unlock()
			return slices.Clone(times[op])
		}
		w := newWriter("x", f, 0)
		w.start()
		time.Sleep(10 * time.Second) // fake time: nothing to do, nothing done
		asleep := time.Since(begin)
		w.Append(result(1))
		time.Sleep(30 * time.Second)
		if writes := done("write"); len(writes) != 2 || writes[0]-asleep > 100*time.Millisecond {
			t.Errorf("writes at %v, appended at %v; want one for the row within 100 ms, one for the sync record", writes, asleep)
		}
		if syncs := done("sync"); len(syncs) != 1 || syncs[0]-asleep > time.Second {
			t.Errorf("syncs at %v, appended at %v; want one within 1 s", syncs, asleep)
		}
		for range 1000 { // 10 s of a row each 10 ms
			w.Append(result(2))
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(done("sync")); n < 11 || n > 25 {
			t.Errorf("%d syncs in 10 s, want one a group", n)
		}
		w.Close()
	})
}

func TestConcurrentAppendsAreAllThereOnce(t *testing.T) {
	w := started(t)
	const writers, each = 16, 2000
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			for i := range each {
				if err := w.Append(fmt.Appendf(nil, `{"type":"result","g":%d,"i":%d}`, g, i)); err != nil {
					t.Error(err)
				}
				if i%100 == 0 {
					w.Note("code", "text")
					w.Silent(uint64(g*each+i), 4, time.Now())
				}
			}
		})
	}
	wg.Wait()
	if err := w.Finish(End{Reason: "done"}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	last := map[int]int{}
	rows := 0
	for _, rec := range readAll(t, w.Path()) {
		var g, i int
		if n, _ := fmt.Sscanf(rec, `{"type":"result","g":%d,"i":%d}`, &g, &i); n == 2 {
			if rows++; i != last[g] {
				t.Fatalf("writer %d: row %d after %d", g, i, last[g]-1)
			}
			last[g]++
		}
	}
	if rows != writers*each {
		t.Errorf("%d rows, want %d", rows, writers*each)
	}
}

// run is a short life of a journal; it returns how many rows Sync promised.
func run(w *Writer) (promised int) {
	for i := range 40 {
		w.Append(result(i))
		if i%10 == 9 && w.Sync() == nil {
			promised = i + 1
		}
	}
	w.Finish(End{Reason: "done"})
	return promised
}

func TestEveryFailingOperationIsStickyAndLosesNothingPromised(t *testing.T) {
	for n := 1; ; n++ {
		f := &fakeFile{failAt: n, err: syscall.EIO}
		w := newWriter("dir/x.jsonl", f, 0)
		w.Put("run", Run{Schema: 1})
		w.start()
		promised := run(w)
		err := w.Close()
		if f.ops < n {
			if err != nil {
				t.Errorf("no operation failed: %v", err)
			}
			if n < 12 {
				t.Errorf("only %d operations", n)
			}
			return
		}
		var we *WriteError
		if !errors.As(err, &we) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "dir/x.jsonl") || !strings.Contains(err.Error(), "input/output error") {
			t.Fatalf("operation %d: error %v", n, err)
		}
		select {
		case <-w.Failed():
		default:
			t.Errorf("operation %d: Failed is not closed", n)
		}
		if f.after > 0 {
			t.Errorf("operation %d failed, and the file was touched %d times afterwards", n, f.after)
		}
		if again := w.Append(result(1)); !errors.Is(again, syscall.EIO) {
			t.Errorf("operation %d: Append afterwards: %v", n, again)
		}
		path := filepath.Join(t.TempDir(), "x")
		os.WriteFile(path, f.Bytes(), 0o600)
		if rows := rowsOf(t, path); rows < promised {
			t.Errorf("operation %d: %d rows recovered, %d were promised", n, rows, promised)
		}
	}
}

// rowsOf counts the rows of a journal, which may have no complete run record.
func rowsOf(t *testing.T, path string) (rows int) {
	t.Helper()
	r, err := Open(path)
	if errors.Is(err, ErrIncomplete) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Type == "result" {
			if !bytes.Equal(rec.Line, result(rows)) {
				t.Fatalf("row %d: %s", rows, rec.Line)
			}
			rows++
		}
	}
	return rows
}

func TestFailedClosesWithin1SOfAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFile{failAt: 1, err: syscall.ENOSPC}
		w := newWriter("x", f, 0)
		w.start()
		w.Append(result(1))
		begin := time.Now()
		<-w.Failed()
		if d := time.Since(begin); d > time.Second {
			t.Errorf("after %v", d)
		}
		if err := w.Err(); !strings.Contains(err.Error(), "disk is full") {
			t.Error(err)
		}
		w.Close()
	})
}

func TestDevFullIsADiskThatIsFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	w := newWriter("/dev/full", diskFile{f}, 0)
	w.start()
	w.Append(result(1))
	<-w.Failed()
	if err := w.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

func TestAppendWaitsWhenTheDiskIsSlow(t *testing.T) {
	gate := make(chan struct{})
	f := &fakeFile{}
	f.onOp = func(string) { <-gate }
	w := newWriter("x", f, 0)
	w.start()
	rec := append(append([]byte(`{"type":"result","x":"`), bytes.Repeat([]byte("x"), 100_000)...), `"}`...)
	const n = 80 // 8 MB
	done := make(chan int)
	go func() {
		for range n {
			w.Append(rec)
		}
		close(done)
	}()
	synced := func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.buf) > maxWaiting-len(rec) }
	for !synced() {
		runtime.Gosched()
	}
	select {
	case <-done:
		t.Fatal("8 MB were taken by a disk that takes nothing")
	default:
	}
	close(gate)
	<-done
	w.Close()
	if got, min := f.Len(), n*len(rec); got < min {
		t.Errorf("%d bytes written, want at least %d", got, min)
	}
}

func TestAJournalIsNeverOverwritten(t *testing.T) {
	w := started(t)
	_, err := Create(w.Path(), Run{})
	if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "--resume") {
		t.Errorf("got %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), link) == nil {
		if _, err := Create(link, Run{}); !errors.Is(err, ErrExists) {
			t.Errorf("through a dangling link: %v", err)
		}
	}
	if info, err := os.Stat(w.Path()); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	_, err = Create(filepath.Join(t.TempDir(), "no", "such", "x"), Run{})
	var we *WriteError
	if !errors.As(err, &we) || !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNotARecordIsRefusedAndTheJournalGoesOn(t *testing.T) {
	w := started(t)
	long := append(append([]byte(`{"type":"x","y":"`), bytes.Repeat([]byte("y"), MaxRecord)...), `"}`...)
	for _, bad := range []string{"", "{}", `{"a":1}`, `{"type":"x"`, "{\"type\":\"x\",\n\"a\":1}", string(long)} {
		if err := w.Append([]byte(bad)); err == nil {
			t.Errorf("%.40q was taken", bad)
		}
	}
	if err := w.Append([]byte(`{"type":"x"}`)); err != nil {
		t.Error(err)
	}
	if err := w.Finish(End{}); err != nil {
		t.Error(err)
	}
	if err := w.Append([]byte(`{"type":"x"}`)); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestTooManyArgumentsAreLeftOutOfTheRunRecord(t *testing.T) {
	args := make([]string, 200_000)
	for i := range args {
		args[i] = "192.0.2.1"
	}
	w, err := Create(filepath.Join(t.TempDir(), "x"), Run{Args: args, Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	r, err := Open(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := r.Run(); got.Args != nil || got.Host != "h" {
		t.Errorf("%d arguments, host %q", len(got.Args), got.Host)
	}
}

func TestTheTeeSeesEveryLineInTheOrderOfTheFile(t *testing.T) {
	for name, late := range map[string]func(t *testing.T, w *Writer) *Writer{
		"from the beginning": func(_ *testing.T, w *Writer) *Writer { return w },
		"of what waits":      func(_ *testing.T, w *Writer) *Writer { w.Append(result(0)); return w },
		"of what was written": func(_ *testing.T, w *Writer) *Writer {
			w.Append(result(0))
			w.Sync()
			w.Append(result(0))
			return w
		},
		"of a journal that goes on": func(t *testing.T, w *Writer) *Writer {
			w.Append(result(0))
			w.Close()
			w, _, err := Resume(w.Path(), targets.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return w
		},
	} {
		t.Run(name, func(t *testing.T) { testTee(t, late(t, started(t))) })
	}
}

func testTee(t *testing.T, w *Writer) {
	var seen bytes.Buffer
	w.Tee(func(line []byte) { seen.Write(line) })
	for i := range 5000 {
		w.Append(result(i))
		if i == 2500 {
			w.Sync()
		}
	}
	w.Finish(End{Reason: "done"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for line := range bytes.Lines(all) {
		if !bytes.HasPrefix(line, []byte(syncPrefix)) {
			want.Write(line)
		}
	}
	if !bytes.Equal(seen.Bytes(), want.Bytes()) {
		t.Errorf("%d bytes seen, %d written", seen.Len(), want.Len())
	}
}

func TestAJournalThatIsTakenAwayIsAnError(t *testing.T) {
	for name, act := range map[string]func(path string) error{
		"removed":         os.Remove,
		"moved":           func(p string) error { return os.Rename(p, p+".old") },
		"with its folder": func(p string) error { return os.RemoveAll(filepath.Dir(p)) },
		"replaced":        func(p string) error { os.Remove(p); return os.WriteFile(p, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			w := started(t)
			if err := act(w.Path()); err != nil {
				t.Skip(err) // Windows keeps open files where they are
			}
			w.Append(result(1))
			err := w.Sync()
			var we *WriteError
			if !errors.As(err, &we) || !strings.Contains(err.Error(), w.Path()) || !errors.Is(err, ErrGone) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		w := started(t)
		w.Tee(func([]byte) {})
		w.Append(result(1))
		w.Close()
		w.Close()
	}
	// Close has waited for them, and the last thing that they do is to say so.
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "x"))
	if err != nil {
		b.Fatal(err)
	}
	w := newWriter("x", diskFile{f}, 0)
	w.start()
	rec := result(1)
	b.SetBytes(int64(len(rec)))
	b.ReportAllocs()
	for b.Loop() {
		w.Append(rec)
	}
	w.Close()
}

func BenchmarkAppendWithoutADisk(b *testing.B) {
	w := newWriter("x", nullFile{}, 0)
	w.start()
	rec := result(1)
	b.SetBytes(int64(len(rec)))
	b.ReportAllocs()
	for b.Loop() {
		w.Append(rec)
	}
	w.Close()
}

type nullFile struct{}

func (nullFile) Write(p []byte) (int, error)       { return io.Discard.Write(p) }
func (nullFile) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (nullFile) Sync() error                       { return nil }
func (nullFile) Close() error                      { return nil }

func BenchmarkFrame(b *testing.B) {
	rec := result(1)
	var buf []byte
	b.SetBytes(int64(len(rec)))
	for b.Loop() {
		buf = appendFrame(buf[:0], rec, checksum(rec))
	}
}

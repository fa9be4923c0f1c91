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
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// A cuttableDisk is the file of a journal on a disk whose power may fail: it
// knows what of it is durable, and what a power cut may leave of the rest.
type cuttableDisk struct {
	image   []byte // what was written
	durable int    // bytes of it that were there at the last sync
	named   bool   // the directory was synced
	changed func() // called after every operation
	syncing func() // called while a sync is under way
}

func (d *cuttableDisk) Write(p []byte) (int, error) {
	d.image = append(d.image, p...)
	d.changed()
	return len(p), nil
}

func (d *cuttableDisk) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(d.image).ReadAt(p, at)
}

func (d *cuttableDisk) Sync() error {
	size := len(d.image)
	d.syncing() // what is written meanwhile is not in it
	d.durable = size
	d.changed()
	return nil
}

func (d *cuttableDisk) Close() error { return nil }

// syncDir brings the name of the file to the disk.
func (d *cuttableDisk) syncDir() error {
	d.named = true
	d.changed()
	return nil
}

// without returns what a power cut leaves if some sectors of what was not synced
// did not arrive, and the file was size bytes long by then.
func (d *cuttableDisk) without(lost func(sector int) bool, size int) []byte {
	left := bytes.Clone(d.image[:size])
	for from := d.durable; from < size; from = from/sector*sector + sector {
		if lost(from / sector) {
			clear(left[from:min(size, from/sector*sector+sector)])
		}
	}
	return left
}

// cuts yields what a power cut may leave now: every length in sectors, the rest
// of the file missing or zeros, every single sector lost, and samples of any
// sectors lost and of any length.
func (d *cuttableDisk) cuts(rng *rand.Rand, samples int, yield func([]byte)) {
	first, all := d.durable/sector, len(d.image)
	for end := d.durable; end < all; end = min(all, end/sector*sector+sector) {
		yield(d.image[:end:end])
		yield(d.without(func(s int) bool { return s*sector+sector > end }, all))
	}
	yield(bytes.Clone(d.image))
	yield(append(bytes.Clone(d.image), make([]byte, 4096-all%4096)...)) // a length that ran ahead of the data
	for s := first; s*sector < all; s++ {
		yield(d.without(func(n int) bool { return n == s }, all))
	}
	for range samples {
		odds := rng.IntN(4) + 1
		size := d.durable + rng.IntN(all-d.durable+1) // any byte: the last block is torn
		yield(d.without(func(int) bool { return rng.IntN(4) < odds }, size))
	}
}

// A cutRun writes the journal of a run on a cuttableDisk.
type cutRun struct {
	t        *testing.T
	rng      *rand.Rand
	samples  int
	plan     *targets.Plan
	w        *Writer
	disk     *cuttableDisk
	rows     [][]byte // what is written of each index; silence has no row
	promised []bool   // positions whose rows a Sync has promised
	written  []bool   // positions whose rows were appended
	cuts     int
}

// whole reports whether every row was appended.
func (c *cutRun) whole() bool { return !slices.Contains(c.written, false) }

// begin begins the journal anew.
func (c *cutRun) begin() {
	c.disk = &cuttableDisk{}
	c.disk.changed, c.disk.syncing = c.check, c.probeMeanwhile
	c.promised, c.written = make([]bool, c.plan.Len()), make([]bool, c.plan.Len())
	c.w = newWriter("x", c.disk, 0)
	c.w.syncDir = c.disk.syncDir
	rec, err := Run{Schema: Schema, PlanHash: c.plan.Hash(), Seed: c.plan.Seed(), Endpoints: c.plan.Len()}.record()
	if err == nil {
		err = c.w.Append(rec)
	}
	for rec := range c.plan.Records() {
		if err == nil {
			err = c.w.Append(rec)
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// check looks at all that a power cut may leave now.
func (c *cutRun) check() {
	if !c.disk.named && c.anyPromised() {
		c.t.Fatal("rows were promised of a file whose name was not on the disk")
	}
	c.disk.cuts(c.rng, c.samples, func(left []byte) {
		c.cuts++
		rec, err := c.recover(left)
		if err == nil {
			c.mustBeBetween(rec)
		} else if c.anyPromised() || !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrPlan) {
			c.t.Fatalf("%d bytes of %d, %d of them durable: %v", len(left), len(c.disk.image), c.disk.durable, err)
		}
	})
}

// anyPromised reports whether a row was promised to be on the disk.
func (c *cutRun) anyPromised() bool { return slices.Contains(c.promised, true) }

// recover reads what is left of a journal as Resume does.
func (c *cutRun) recover(left []byte) (*Recovered, error) {
	r, err := newReader("x", inMemory{bytes.NewReader(left)}, int64(len(left)), false)
	if err != nil {
		return nil, err
	}
	rec, err := r.recover(targets.Config{AllowReserved: true})
	if err == nil {
		c.mustBeOurs(r)
	}
	return rec, err
}

// mustBeOurs fails the test if a row is not as it was written.
func (c *cutRun) mustBeOurs(r *Reader) {
	for rec, err := range r.Records() {
		if err != nil {
			c.t.Fatal(err)
		}
		if rec.Type != "result" {
			continue
		}
		row, err := parseRow(rec.Line)
		if err != nil {
			c.t.Fatal(err)
		}
		addr, _ := row.endpoint()
		i, ok := c.plan.Index(addr, row.port)
		if !ok || !bytes.Equal(rec.Line, c.rows[i]) {
			c.t.Fatalf("row %s, want %s", rec.Line, c.rows[i])
		}
	}
}

// mustBeBetween fails the test unless what was recovered has everything that was
// promised and nothing that was not written.
func (c *cutRun) mustBeBetween(rec *Recovered) {
	for pos := range c.plan.Len() {
		if done := rec.Done.Contains(pos); c.promised[pos] && !done || done && !c.written[pos] {
			c.t.Fatalf("position %d: recovered %t, promised %t, written %t", pos, done, c.promised[pos], c.written[pos])
		}
	}
}

// probe writes some rows, and flushes and syncs by chance.
func (c *cutRun) probe(rows int) {
	for ; rows > 0 && !c.whole(); rows-- {
		c.row()
		switch c.rng.IntN(12) {
		case 0:
			before := slices.Clone(c.written)
			if err := c.w.Sync(); err != nil {
				c.t.Fatal(err)
			}
			c.promised = before // what came while it synced was not promised
		case 1, 2, 3:
			c.w.flush()
		}
	}
}

// probeMeanwhile writes some rows while a sync is under way.
func (c *cutRun) probeMeanwhile() {
	for range c.rng.IntN(8) {
		if !c.whole() {
			c.row()
		}
	}
	if c.rng.IntN(2) == 0 {
		c.w.flush()
	}
}

// row writes the first row that is not there yet.
func (c *cutRun) row() {
	pos := uint64(slices.Index(c.written, false))
	c.written[pos] = true
	if row := c.rows[c.plan.Order(targets.Shard{}).At(pos)]; row != nil {
		c.w.Append(row)
	} else {
		c.w.Silent(pos, 4, time.Unix(1_800_000_000, 0))
	}
}

// cut cuts the power and goes on with what is left, on a real disk for as long as
// it takes to recover it.
func (c *cutRun) cut() {
	var left []byte
	n := 0
	c.disk.cuts(c.rng, 20, func(state []byte) {
		if n++; c.rng.IntN(n) == 0 {
			left = state
		}
	})
	path := filepath.Join(c.t.TempDir(), "x.jsonl")
	if err := os.WriteFile(path, left, 0o600); err != nil {
		c.t.Fatal(err)
	}
	w, rec, err := Resume(path, targets.Config{AllowReserved: true})
	if !c.anyPromised() && (errors.Is(err, ErrIncomplete) || errors.Is(err, ErrPlan)) {
		c.begin()
		return
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.mustBeBetween(rec)
	preface := w.preface
	w.Close()
	if left, err = os.ReadFile(path); err != nil {
		c.t.Fatal(err)
	}
	c.disk.image, c.disk.durable = left, len(left)
	for pos := range c.plan.Len() {
		c.written[pos] = rec.Done.Contains(pos)
		c.promised[pos] = c.written[pos] && c.disk.named
	}
	c.w = newWriter("x", c.disk, int64(len(left)))
	c.w.preface, c.w.syncDir = preface, c.disk.syncDir
}

// A power cut may lose what was not synced, in any order: at every instant of a
// run, what is recovered has all that was promised, and no row that was not
// written; and a run that goes on after each is as whole as one without any.
func TestEveryPowerCutLeavesWhatWasSynced(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng, cuts := rand.New(rand.NewPCG(seed, 0)), 0
	for range lab.Count(t, 2, 4, 200) {
		plan := planOf(t, "10.1.0.0/26", fmt.Sprintf("10.7.%d.1", rng.IntN(256)), "2001:db8::/125")
		c := &cutRun{t: t, rng: rng, samples: 8, plan: plan, rows: make([][]byte, plan.Len())}
		for i := range plan.Len() {
			if state, reason, silent := verdict(i); !silent {
				c.rows[i] = rowOf(plan.At(i), state, reason)
			}
		}
		c.begin()
		for !c.whole() {
			c.probe(1 + rng.IntN(80))
			if !c.whole() || rng.IntN(2) == 0 {
				c.cut()
			}
		}
		if err := c.w.Finish(End{Reason: "done"}); err != nil {
			t.Fatal(err)
		}
		path := write(t, c.disk.image)
		if got, want := folded(t, FoldOptions{}, path), wanted(plan, false); !slices.Equal(got, want) {
			t.Fatalf("%d rows, want %d; first difference %s", len(got), len(want), difference(got, want))
		}
		if twice := resultsTwice(t, path); twice > 0 {
			t.Errorf("%d rows are there twice", twice)
		}
		cuts += c.cuts
	}
	lab.Proof(t, "%d power cuts", cuts)
}

// resultsTwice counts the result records of endpoints that have one already.
func resultsTwice(t *testing.T, path string) (twice int) {
	t.Helper()
	seen := map[string]bool{}
	for _, rec := range readAll(t, path) {
		if strings.HasPrefix(rec, `{"type":"result"`) && seen[rec] {
			twice++
		}
		seen[rec] = true
	}
	return twice
}

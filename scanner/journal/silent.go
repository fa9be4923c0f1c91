package journal

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

const (
	// An exception costs about as many bytes as a position has digits, a record
	// of its own about a hundred: up to eight exceptions are cheaper.
	maxGap = 8
	// maxExcept keeps a silent record below 20 KiB.
	maxExcept = 1024
	// maxSpan bounds what a reader unfolds from one record.
	maxSpan = 1 << 20
	// flushSilent is how many silent positions are encoded at once.
	flushSilent = 32_768
)

// A silence is one endpoint that did not answer.
type silence struct {
	pos      uint64
	attempts int
	at       int64 // Unix milliseconds
}

// Silent records that the endpoint at a position of the order of the run's
// shard did not answer a number of attempts. Silence is written by block, at
// most 100 ms after it came; it is meant for plans above [BlockAbove].
func (w *Writer) Silent(pos uint64, attempts int, at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && len(w.buf)+w.tee.waiting() > maxWaiting {
		w.room.Wait()
	}
	if err := w.writable(); err != nil {
		return err
	}
	if len(w.silent) == 0 {
		signal(w.wake)
	}
	w.silent = append(w.silent, silence{pos, attempts, at.UnixMilli()})
	if len(w.silent) >= flushSilent {
		w.encodeSilent()
	}
	return nil
}

// encodeSilent turns the silent positions that came into records. w.mu is held.
func (w *Writer) encodeSilent() {
	if w.err != nil || len(w.silent) == 0 {
		return
	}
	var rec []byte
	for b := range blocks(w.silent) {
		rec = b.append(rec[:0])
		w.add(rec, checksum(rec))
	}
	w.silent = w.silent[:0]
}

// A block is a silent record.
type block struct {
	Time     time.Time `json:"time"` // when the last of them was decided
	From     uint64    `json:"from"`
	To       uint64    `json:"to"`
	Except   []uint64  `json:"except"` // ascending, between From and To
	Attempts int       `json:"attempts"`
}

// blocks sorts all and yields records that say the same. A block is good until
// the next one.
func blocks(all []silence) func(yield func(*block) bool) {
	slices.SortFunc(all, func(a, b silence) int {
		return cmp.Or(cmp.Compare(a.attempts, b.attempts), cmp.Compare(a.pos, b.pos))
	})
	return func(yield func(*block) bool) {
		var b block
		for i := 0; i < len(all); {
			i += b.fill(all[i:])
			if !yield(&b) {
				return
			}
		}
	}
}

// fill makes b the record of as many of the first sorted silences as fit one,
// and returns how many these are.
func (b *block) fill(all []silence) int {
	first := all[0]
	*b = block{From: first.pos, To: first.pos, Attempts: first.attempts, Except: b.Except[:0]}
	latest := first.at
	n := 1
	for ; n < len(all); n++ {
		s := all[n]
		gap := s.pos - b.To - 1 // wraps for a position said twice
		if s.pos == b.To {
			gap = 0
		}
		if s.attempts != b.Attempts || gap > maxGap || len(b.Except)+int(gap) > maxExcept || s.pos-b.From >= maxSpan {
			break
		}
		for p := b.To + 1; p < s.pos; p++ {
			b.Except = append(b.Except, p)
		}
		b.To, latest = s.pos, max(latest, s.at)
	}
	b.Time = time.UnixMilli(latest)
	return n
}

// append appends the record as JSON.
func (b *block) append(rec []byte) []byte {
	rec = append(rec, `{"type":"silent","time":"`...)
	rec = b.Time.UTC().AppendFormat(rec, "2006-01-02T15:04:05.000Z")
	rec = append(rec, `","from":`...)
	rec = strconv.AppendUint(rec, b.From, 10)
	rec = append(rec, `,"to":`...)
	rec = strconv.AppendUint(rec, b.To, 10)
	rec = append(rec, `,"except":[`...)
	for i, p := range b.Except {
		if i > 0 {
			rec = append(rec, ',')
		}
		rec = strconv.AppendUint(rec, p, 10)
	}
	rec = append(rec, `],"attempts":`...)
	rec = strconv.AppendInt(rec, int64(b.Attempts), 10)
	return append(rec, '}')
}

// parseBlock reads a silent record. A record that breaks the rules of blocks is
// an error: its checksum may be right, but we did not write it.
func parseBlock(line []byte) (b block, err error) {
	if err := json.Unmarshal(line, &b); err != nil {
		return block{}, fmt.Errorf("silent record: %w", err)
	}
	if b.To < b.From || b.To-b.From >= maxSpan || b.Attempts < 0 {
		return block{}, errors.New("silent record: bad range")
	}
	if !slices.IsSorted(b.Except) {
		return block{}, errors.New("silent record: exceptions out of order")
	}
	return b, nil
}

// positions yields the silent positions.
func (b *block) positions(yield func(uint64) bool) {
	except := b.Except
	for p := b.From; ; p++ {
		for len(except) > 0 && except[0] < p {
			except = except[1:]
		}
		if len(except) == 0 || except[0] != p {
			if !yield(p) {
				return
			}
		}
		if p == b.To { // not p <= b.To: To may be the largest number
			return
		}
	}
}

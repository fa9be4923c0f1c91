// Package journal keeps what a run learned: an append-only file of JSON Lines,
// one checksummed record a line, from which every report is made and from
// which a run that was killed goes on.
//
// [Create] starts a journal, [Writer.Append] adds to it, [Resume] goes on after
// a crash, [Open] reads it, [Fold] gives the final rows in plan order.
// The package frames, commits and recovers records; what a result record says
// is the affair of package report.
//
// # Records
//
// Every line is a JSON object whose first key is "type" and whose last key is
// "crc": the CRC-32C (Castagnoli) of the bytes of the line before `,"crc"`, in
// 8 lower-case hex digits. Types written here are "run" (always first),
// "silent", "note", "end" and "sync"; "plan", "answer", "result" and whatever
// comes later are the caller's. Readers keep types that they do not know.
//
// A "silent" record {"type":"silent","time":…,"from":i,"to":j,"except":[…],"attempts":n}
// says that every position from..to, both included, of the order of the run's
// shard ([targets.Plan.Order]) sent no answer, but for those in "except", about
// which it says nothing.
//
// A "sync" record {"type":"sync","time":…,"bytes":n} says that the first n bytes
// of the file were on the disk when it was written. It is what tells a power
// cut from damage: bytes after the last sync may be lost, or land out of order,
// and are dropped as a torn tail; a bad record before one is damage.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// Schema is the version of the record format that this package writes, and the
// newest that it reads.
const Schema = 1

// BlockAbove is the number of endpoints above which a run writes silence by
// block ([Writer.Silent]) and not by row.
const BlockAbove = 65_536

// MaxRecord is the length of the longest record in bytes, newline included.
const MaxRecord = 1 << 20

// A Run says what was run: the first record of a journal.
type Run struct {
	Schema     int             `json:"schema"`            // Schema if zero
	Version    string          `json:"version,omitempty"` // of the program
	Args       []string        `json:"args,omitempty"`    // as typed; left out if the record were too long otherwise
	Started    time.Time       `json:"started"`           // now if zero
	PID        int             `json:"pid,omitempty"`     // this process if zero
	Host       string          `json:"host,omitempty"`
	User       string          `json:"user,omitempty"`
	Vantage    string          `json:"vantage,omitempty"`
	Source     string          `json:"source,omitempty"`
	Gateway    string          `json:"gateway,omitempty"`
	Resolvers  []string        `json:"resolvers,omitempty"`
	Seed       uint64          `json:"seed,string"` // a string, because JSON readers round numbers above 2^53
	PlanHash   string          `json:"plan_hash,omitempty"`
	Endpoints  uint64          `json:"endpoints"`        // addresses x ports, before exclusions
	Names      int             `json:"names,omitempty"`  // names and mx: domains
	Shard      string          `json:"shard,omitempty"`  // "2/8"; empty for everything
	Config     json.RawMessage `json:"config,omitempty"` // full effective configuration
	ConfigHash string          `json:"config_hash,omitempty"`
	Files      []File          `json:"files,omitempty"` // lists that were read; a resumed run must be given the same
}

// A File is a target list that a run read.
type File struct {
	Path   string `json:"path"` // "-" for standard input
	SHA256 string `json:"sha256"`
	Bytes  uint64 `json:"bytes"`
}

// An End is the last record of a run that ended by itself or was interrupted.
type End struct {
	Reason string            `json:"reason"` // why it ended, in one word of the caller's: "done", "interrupted"
	Totals map[string]uint64 `json:"totals,omitempty"`
}

// Errors that a caller may ask for with [errors.Is].
var (
	ErrExists     = errors.New("already exists")
	ErrLocked     = errors.New("is in use by another process")
	ErrSchema     = errors.New("was written by a newer version of smtpsweep")
	ErrIncomplete = errors.New("has no complete run record")
	ErrPlan       = errors.New("does not hold the plan that its run record names")
	ErrClosed     = errors.New("is closed")
	ErrGone       = errors.New("is not where it was")
)

// A DamageError says where a journal is damaged: a record whose bytes had
// reached the disk is not what was written, or was never ours.
type DamageError struct {
	Path   string
	Offset int64 // of the bad record, in bytes
	Line   int   // of the bad record, from 1
	Why    string
	err    error // the cause, if Why is not all
}

// Error names the file, the line and the offset.
func (e *DamageError) Error() string {
	return fmt.Sprintf("journal %s: line %d (byte %d) is damaged: %s", e.Path, e.Line, e.Offset, e.Why)
}

// Unwrap returns the cause, if there is one.
func (e *DamageError) Unwrap() error { return e.err }

// A WriteError says that a journal could not be written. What was on the disk
// before it still is; the run can be resumed.
type WriteError struct {
	Path string
	Op   string // "write", "sync", ...
	Err  error
}

// Error names the file and says the cause in plain words.
func (e *WriteError) Error() string {
	return fmt.Sprintf("journal %s: %s: %s", e.Path, e.Op, plain(e.Err))
}

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

// causes are the errors of a file system that a user can do something about.
var causes = []struct {
	errno syscall.Errno
	words string
}{
	{syscall.ENOSPC, "the disk is full (ENOSPC); free some space"},
	{syscall.EDQUOT, "the disk quota is used up (EDQUOT); free some space"},
	{syscall.EFBIG, "the file is too large for the limit of this process (EFBIG); raise it with ulimit -f"},
	{syscall.EROFS, "the file system is read-only (EROFS)"},
	{syscall.EIO, "the disk reports an input/output error (EIO); see the system log"},
	{syscall.EACCES, "permission denied (EACCES)"},
	{syscall.EPERM, "operation not permitted (EPERM)"},
	{syscall.ENOENT, "no such directory (ENOENT)"},
	{syscall.ENOTDIR, "a part of the path is not a directory (ENOTDIR)"},
	{syscall.ELOOP, "it is a symbolic link (ELOOP); name the file itself"},
}

// plain returns err in plain words.
func plain(err error) string {
	for _, c := range causes {
		if errors.Is(err, c.errno) {
			return c.words
		}
	}
	return err.Error()
}

// Encode returns v as a record of a type: v's JSON object with the key "type"
// before all others. v must marshal to an object.
func Encode(typ string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s record: %w", typ, err)
	}
	if len(body) < 2 || body[0] != '{' {
		return nil, fmt.Errorf("encode %s record: %T is not a JSON object", typ, v)
	}
	rec := make([]byte, 0, len(body)+len(typ)+10)
	rec = append(rec, `{"type":"`...)
	rec = append(rec, typ...)
	rec = append(rec, '"')
	if len(body) > 2 {
		rec = append(rec, ',')
	}
	return append(rec, body[1:]...), nil
}

// stamp returns t as records write it: RFC 3339, UTC, milliseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// record encodes the run record, without its arguments if they make it too long.
func (r Run) record() ([]byte, error) {
	rec, err := Encode("run", r)
	if err != nil {
		return nil, err
	}
	if len(rec)+trailer > MaxRecord {
		r.Args = nil
		if rec, err = Encode("run", r); err != nil {
			return nil, err
		}
	}
	return rec, checkRecord(rec)
}

// typePrefix begins every record.
const typePrefix = `{"type":"`

// checkRecord says what keeps rec from being a line of a journal.
func checkRecord(rec []byte) error {
	switch {
	case len(rec) < len(typePrefix)+2 || string(rec[:len(typePrefix)]) != typePrefix || rec[len(rec)-1] != '}':
		return errors.New(`a journal record must be a JSON object that begins {"type":"`)
	case len(rec)+trailer > MaxRecord:
		return fmt.Errorf("a journal record of %d bytes is too long (at most %d)", len(rec), MaxRecord-trailer)
	}
	return nil
}

// describe puts the file's name before an error.
func describe(path string, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), "journal ") {
		return err
	}
	return fmt.Errorf("journal %s: %w", path, err)
}

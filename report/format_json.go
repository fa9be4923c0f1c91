package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

var (
	jsonlFormat = Format{
		Name: "jsonl", Help: "JSON Lines: the journal, one record a line", Endings: []string{".jsonl", ".ndjson"}, Streams: true, New: newJSONL,
	}
	jsonFormat = Format{
		Name: "json", Help: "one JSON document: run, results, totals", Endings: []string{".json"}, New: newJSON,
	}
)

// A jsonlEncoder writes records as the journal does.
type jsonlEncoder struct {
	w      io.Writer
	record []byte
	line   []byte
}

func newJSONL(w io.Writer, h Header, _ Options) (Encoder, error) {
	e := &jsonlEncoder{w: w}
	run, err := runRecord(&h)
	if err != nil {
		return nil, err
	}
	return e, e.write(run)
}

// write writes one record and its checksum.
func (e *jsonlEncoder) write(record []byte) error {
	e.line = journal.AppendLine(e.line[:0], record)
	_, err := e.w.Write(e.line)
	return err
}

// Row writes one record.
func (e *jsonlEncoder) Row(r *Row) error {
	e.record = r.AppendJSON(e.record[:0])
	return e.write(e.record)
}

// Close writes the end record.
func (e *jsonlEncoder) Close(t Totals) error { return e.write(endRecord(&t)) }

// A jsonEncoder writes {"schema":1,"run":{…},"results":[…],"totals":{…}}, a row
// at a time.
type jsonEncoder struct {
	w    io.Writer
	buf  []byte
	rows uint64
}

func newJSON(w io.Writer, h Header, _ Options) (Encoder, error) {
	run, err := runRecord(&h)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(w, "{\"schema\":%d,\n\"run\":%s,\n\"results\":[", SchemaVersion, run)
	return &jsonEncoder{w: w}, err
}

// Row writes one element of results.
func (e *jsonEncoder) Row(r *Row) error {
	e.buf = e.buf[:0]
	if e.rows > 0 {
		e.buf = append(e.buf, ',')
	}
	e.rows++
	e.buf = r.AppendJSON(append(e.buf, '\n'))
	_, err := e.w.Write(e.buf)
	return err
}

// Close ends the document.
func (e *jsonEncoder) Close(t Totals) error {
	_, err := fmt.Fprintf(e.w, "\n],\n\"totals\":%s}\n", endRecord(&t))
	return err
}

// runRecord returns the run record without its checksum, compact and safe to
// print: the journal's own, or one made of the header's fields.
func runRecord(h *Header) ([]byte, error) {
	if len(h.RunRecord) > 0 {
		return bareRecord(h.RunRecord)
	}
	dst := []byte(`{"type":"run","schema":` + strconv.Itoa(SchemaVersion))
	dst = appendMember(dst, "version", h.Version)
	if h.Args != "" {
		dst = appendCleanList(append(dst, `,"args":`...), []string{h.Args})
	}
	dst = appendMember(dst, "engine", h.Engine)
	dst = appendMember(dst, "vantage", h.Vantage)
	dst = appendMember(dst, "source", h.Source)
	if !h.Started.IsZero() {
		dst = appendMember(dst, "started", string(appendTime(nil, h.Started)))
	}
	if len(h.Ports) > 0 {
		dst = append(dst, `,"ports":[`...)
		for i, p := range h.Ports {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, strconv.Itoa(int(p.Number))+"/"+p.Role.String())
		}
		dst = append(dst, ']')
	}
	if h.Endpoints > 0 {
		dst = strconv.AppendUint(append(dst, `,"endpoints":`...), h.Endpoints, 10)
	}
	return append(dst, '}'), nil
}

// bareRecord takes the checksum from a record of the journal.
func bareRecord(record []byte) ([]byte, error) {
	record = bytes.TrimSpace(record)
	if !json.Valid(record) || record[0] != '{' {
		return nil, fmt.Errorf("run record is not a JSON object")
	}
	const tail = len(`,"crc":"00000000"}`)
	if n := len(record) - tail; n > 0 && bytes.HasPrefix(record[n:], []byte(`,"crc":"`)) {
		record = append(slices.Clone(record[:n]), '}')
	}
	return appendSafeJSON(nil, string(record)), nil
}

// appendMember appends a member, cleaned, or nothing if there is no text.
func appendMember(dst []byte, key, text string) []byte {
	if text == "" {
		return dst
	}
	dst = append(append(append(dst, `,"`...), key...), `":`...)
	return appendString(dst, Clean(text))
}

// endRecord is the last record of a journal: why the run ended, and the totals.
func endRecord(t *Totals) []byte {
	reason := "done"
	if !t.Complete {
		reason = "incomplete"
	}
	dst := fmt.Appendf(nil, `{"type":"end","reason":"%s","totals":{"open":%d,"closed":%d,"filtered":%d,"unknown":%d`,
		reason, t.Open, t.Closed, t.Filtered, t.Unknown)
	if t.Undecided > 0 {
		dst = fmt.Appendf(dst, `,"undecided":%d`, t.Undecided)
	}
	if t.Planned > 0 {
		dst = fmt.Appendf(dst, `,"planned":%d`, t.Planned)
	}
	dst = append(dst, '}')
	if len(t.ByReason) > 0 {
		dst = append(dst, `,"by_reason":{`...)
		for i, reason := range sortedKeys(t.ByReason) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, Clean(reason)), ':')
			dst = strconv.AppendUint(dst, t.ByReason[reason], 10)
		}
		dst = append(dst, '}')
	}
	if t.Elapsed > 0 {
		dst = appendMillis(append(dst, `,"elapsed_ms":`...), t.Elapsed)
	}
	if !t.Ended.IsZero() {
		dst = appendMember(dst, "ended", string(appendTime(nil, t.Ended)))
	}
	if len(t.Notes) > 0 {
		dst = appendCleanList(append(dst, `,"notes":`...), t.Notes)
	}
	return append(dst, '}')
}

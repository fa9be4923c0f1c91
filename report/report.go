// Package report says what a row has and how it is written.
//
// Start with [RowOf]: it turns a scanner.Result into a [Row], the text of every
// column of [Scan], and it is the one place where bytes of strangers are
// cleaned. A [Format] writes rows: [Lookup] and [ByEnding] find one, its New
// makes an [Encoder] of one output. [Row.AppendJSON] and [ParseRow] are the row
// in the journal.
//
// The package prints nothing, opens no file, and never looks at a terminal:
// colour, width and what to show come in as [Options].
package report

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/targets"
)

// SchemaVersion is the number in "schema" of the run record. Columns are only
// ever added at the end and keys only added, so it changes only if one changes
// its meaning.
const SchemaVersion = 1

// A Header says what is known about a run before its rows. The zero value of a
// field means that it is not known, and is left out of the output.
type Header struct {
	Args      string         // the command line
	Version   string         // of smtpsweep
	Engine    string         // "connect" or "syn"
	Started   time.Time      // when the run began
	Ports     []targets.Port // what was asked of every address
	Vantage   string         // label of where we looked from
	Source    string         // our address
	Endpoints uint64         // rows that the plan holds
	// RunRecord is the journal's run record, one JSON object, with or without
	// its checksum. Formats that keep structure copy it; if it is empty they
	// write the fields above.
	RunRecord []byte
}

// Totals says how a run ended. ByReason counts rows by their reason.
type Totals struct {
	Open, Closed, Filtered, Unknown uint64
	ByReason                        map[string]uint64
	Planned                         uint64        // endpoints of the plan; 0 if not known
	Undecided                       uint64        // rows of Unknown for a cause that another run may cure
	Elapsed                         time.Duration // from start to end
	Ended                           time.Time
	Complete                        bool     // every endpoint has its row
	Notes                           []string // what may have biased the run
}

// incomplete says for people that a run is not complete. How to go on with it
// says whoever knows where its journal is.
func (t *Totals) incomplete() string {
	if rows := t.Rows(); rows < t.Planned {
		return fmt.Sprintf("The run is not complete: %s of %s endpoints have a row.", thousands(rows), thousands(t.Planned))
	}
	return "The run is not complete."
}

// Rows returns how many rows the totals count.
func (t *Totals) Rows() uint64 { return t.Open + t.Closed + t.Filtered + t.Unknown }

// Count adds one row to the totals.
func (t *Totals) Count(r *Row) {
	switch r.Cells[ColState] {
	case "open":
		t.Open++
	case "closed":
		t.Closed++
	case "filtered":
		t.Filtered++
	default:
		t.Unknown++
		if curable(r.Cells[ColReason]) {
			t.Undecided++
		}
	}
	if t.ByReason == nil {
		t.ByReason = make(map[string]uint64)
	}
	t.ByReason[r.Cells[ColReason]]++
}

// An Encoder writes the rows of one run to one output.
//
// Formats whose Streams is false want rows sorted by address, name and port
// (the rows of one host together); they work, less prettily, with any order.
type Encoder interface {
	// Row writes one row, or keeps what it needs of it: the caller may use the
	// Row again. An error is an error of the output.
	Row(*Row) error
	// Close ends the document. It does not close the writer.
	Close(Totals) error
}

// Options says how an output should look. The zero value is plain and complete.
type Options struct {
	Color  bool         // colour states (table)
	Width  int          // columns of the terminal; 0 is no limit (table)
	CSVBOM bool         // begin with U+FEFF, for old versions of Excel (csv)
	Show   Show         // which rows are listed and which are only counted (table, md)
	Notice func(string) // called with one sentence that the user should read; nil to not be told
}

// notice tells the user something, if anybody listens.
func (o *Options) notice(format string, args ...any) {
	if o.Notice != nil {
		o.Notice(fmt.Sprintf(format, args...))
	}
}

// A Format is a way to write rows.
type Format struct {
	Name    string   // as in -f NAME
	Help    string   // one line for the list of formats
	Endings []string // file name endings that mean it, the usual one first
	Streams bool     // rows may come in the order they finish
	New     func(w io.Writer, h Header, o Options) (Encoder, error)
}

// formats is the table of all formats, in the order of help texts.
var formats = []Format{tableFormat, csvFormat, jsonlFormat, jsonFormat, targetsFormat, xmlFormat, mdFormat}

// Formats returns all formats, in the order of help texts.
func Formats() []Format { return slices.Clone(formats) }

// Lookup returns the format of a name; the error lists the names.
func Lookup(name string) (Format, error) { return LookupIn(formats, name) }

// LookupIn is Lookup among some formats.
func LookupIn(formats []Format, name string) (Format, error) {
	var names []string
	for _, f := range formats {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Format{}, fmt.Errorf("no format %q; there are %s", Clean(name), strings.Join(names, ", "))
}

// ByEnding returns the format that the ending of a file name means; the error
// lists the endings.
func ByEnding(path string) (Format, error) { return ByEndingIn(formats, path) }

// ByEndingIn is ByEnding among some formats.
func ByEndingIn(formats []Format, path string) (Format, error) {
	ending := strings.ToLower(filepath.Ext(path))
	var endings []string
	for _, f := range formats {
		if slices.Contains(f.Endings, ending) {
			return f, nil
		}
		endings = append(endings, f.Endings...)
	}
	return Format{}, fmt.Errorf("%s: no format has the ending %q; there are %s", Clean(path), Clean(ending), strings.Join(endings, ", "))
}

// A Show says which rows a listing has; the rest is counted. The zero value is ShowAuto.
type Show uint8

const (
	// ShowAuto lists every row of up to 64 endpoints or of one host, and the
	// open ones of more. Addresses that were silent on all ports are folded to
	// ranges even of few endpoints, unless they came from a name.
	ShowAuto     Show = 0
	ShowUnknown  Show = 1 << (iota - 1) // list rows of this state
	ShowOpen                            // list rows of this state
	ShowClosed                          // list rows of this state
	ShowFiltered                        // list rows of this state
	ShowAll      = ShowUnknown | ShowOpen | ShowClosed | ShowFiltered
)

// showWords are the words of --show.
var showWords = map[string]Show{
	"auto": ShowAuto, "all": ShowAll,
	"unknown": ShowUnknown, "open": ShowOpen, "closed": ShowClosed, "filtered": ShowFiltered,
}

// ParseShow reads "auto", "all", or states separated by commas.
func ParseShow(s string) (Show, error) {
	var show Show
	for word := range strings.SplitSeq(s, ",") {
		v, ok := showWords[word]
		if !ok || (v == ShowAuto && s != word) {
			return 0, fmt.Errorf("--show %q: want auto, all, or some of open,closed,filtered,unknown", Clean(s))
		}
		show |= v
	}
	return show, nil
}

// has reports whether rows of a state are listed.
func (s Show) has(state string) bool { return s&showWords[state] != 0 }

// Summary says in one line what a run saw:
// "6 open, 3 closed, 39 filtered, 0 undecided = 48 of 48 in 49 s". Undecided is
// what another run may decide; the other rows of state unknown (excluded,
// reserved, NXDOMAIN, null MX) are final, and "not probed" if there are any.
func Summary(t Totals) string {
	s := fmt.Sprintf("%s open, %s closed, %s filtered", thousands(t.Open), thousands(t.Closed), thousands(t.Filtered))
	if t.Unknown > t.Undecided {
		s += ", " + thousands(t.Unknown-t.Undecided) + " not probed"
	}
	s += ", " + thousands(t.Undecided) + " undecided = " + thousands(t.Rows())
	if t.Planned >= t.Rows() && t.Planned > 0 { // names may lead to more rows than were planned
		s += " of " + thousands(t.Planned)
	}
	if t.Elapsed > 0 {
		s += " in " + span(t.Elapsed)
	}
	return s
}

// span writes a duration for people: "0.4 s", "49 s", "3 min 20 s", "2 h 5 min".
func span(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// thousands writes a number with commas: "1,048,576".
func thousands(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// sortedKeys returns the keys of a map in order, for output that is the same every time.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

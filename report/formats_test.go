package report

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// render writes the fixture in a format.
func render(t *testing.T, name string, o Options) []byte {
	t.Helper()
	rows, totals := fixtureRows()
	return renderRows(t, name, o, rows, totals)
}

// renderRows writes rows in a format.
func renderRows(t *testing.T, name string, o Options, rows []Row, totals Totals) []byte {
	t.Helper()
	f, err := Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	e, err := f.New(&buf, fixtureHeader(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		row := rows[i] // the encoder may not keep it: scribble over it afterwards
		row.Detail = bytes.Clone(row.Detail)
		if err := e.Row(&row); err != nil {
			t.Fatal(err)
		}
		for j := range row.Cells {
			row.Cells[j] = "overwritten"
		}
		copy(row.Detail, bytes.Repeat([]byte{'x'}, len(row.Detail)))
	}
	if err := e.Close(totals); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestEveryFormatHasItsGoldenFile(t *testing.T) {
	for _, f := range Formats() {
		t.Run(f.Name, func(t *testing.T) {
			got := render(t, f.Name, Options{Width: 120})
			path := filepath.Join("testdata", "scan."+f.Name)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("output differs from %s (-update writes it anew):\n%s", path, firstDifference(string(got), string(want)))
			}
			if f.Help == "" || len(f.Endings) == 0 {
				t.Error("a format needs a help text and an ending")
			}
		})
	}
}

// firstDifference shows the first lines that differ.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return "one is longer"
}

package main

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
)

// csvRows reads CSV with a header into a map a row.
func csvRows(t *testing.T, text string) (rows []map[string]string) {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(lines) == 0 {
		t.Fatalf("not CSV (%v):\n%s", err, text)
	}
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, cell := range line {
			row[lines[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return rows
}

// jsonRecords reads JSON Lines and returns the records of one type.
func jsonRecords(t *testing.T, text, kind string) (records []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("not JSON (%v): %s", err, line)
		}
		if record["type"] == kind {
			records = append(records, record)
		}
	}
	return records
}

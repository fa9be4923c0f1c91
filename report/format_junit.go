package report

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"time"
)

// A testSuite is the tests that CI shows together.
type testSuite struct {
	name  string
	began time.Time // zero if it is not known
	cases []testCase
}

// A testCase is one test: passed, unless it failed or was skipped.
type testCase struct {
	class, name string
	failed      string // what kind of failure; "" if it is none
	skipped     bool
	said        string // why, a sentence
}

func (s *testSuite) count() (failed, skipped int) {
	for _, c := range s.cases {
		switch {
		case c.failed != "":
			failed++
		case c.skipped:
			skipped++
		}
	}
	return failed, skipped
}

// writeJUnit writes the XML that CI systems read test results from: the dialect
// that JUnit's Ant task began, with the elements that all of them know.
func writeJUnit(w io.Writer, s *Sheet, _ Options) error {
	var b bytes.Buffer
	suites := s.tests()
	tests, failed, skipped := 0, 0, 0
	for i := range suites {
		f, k := suites[i].count()
		tests, failed, skipped = tests+len(suites[i].cases), failed+f, skipped+k
	}
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<testsuites")
	attr(&b, "name", s.Title)
	counts(&b, tests, failed, skipped)
	b.WriteString(">\n")
	for i := range suites {
		suites[i].write(&b)
	}
	b.WriteString("</testsuites>\n")
	_, err := w.Write(b.Bytes())
	return err
}

func counts(b *bytes.Buffer, tests, failed, skipped int) {
	attr(b, "tests", strconv.Itoa(tests))
	attr(b, "failures", strconv.Itoa(failed))
	attr(b, "errors", "0")
	attr(b, "skipped", strconv.Itoa(skipped))
	attr(b, "time", "0")
}

func (s *testSuite) write(b *bytes.Buffer) {
	failed, skipped := s.count()
	b.WriteString("<testsuite")
	attr(b, "name", s.name)
	counts(b, len(s.cases), failed, skipped)
	if !s.began.IsZero() {
		attr(b, "timestamp", s.began.UTC().Format("2006-01-02T15:04:05")) // the usual schema takes no zone
	}
	b.WriteString(">\n")
	for _, c := range s.cases {
		b.WriteString("<testcase")
		attr(b, "classname", c.class)
		attr(b, "name", c.name)
		attr(b, "time", "0")
		switch {
		case c.failed != "":
			b.WriteString("><failure")
			attr(b, "type", c.failed)
			attr(b, "message", c.said)
			b.WriteString("/></testcase>\n")
		case c.skipped:
			b.WriteString("><skipped")
			attr(b, "message", c.said)
			b.WriteString("/></testcase>\n")
		case c.said != "":
			b.WriteString("><system-out>" + xmlText(c.said) + "</system-out></testcase>\n")
		default:
			b.WriteString("/>\n")
		}
	}
	b.WriteString("</testsuite>\n")
}

// dotted writes a name for "classname", of which CI systems make a tree at its dots.
func dotted(s string) string { return strings.ReplaceAll(s, ".", "_") }

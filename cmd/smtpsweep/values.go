package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// A seconds is a duration flag. A bare number counts as seconds, as in nmap.
type seconds struct {
	d        time.Duration
	min, max time.Duration
	zeroOff  bool // 0 is allowed and means off
}

func (s *seconds) String() string { return s.d.String() }
func (s *seconds) Type() string   { return "TIME" }
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		n, numErr := strconv.ParseFloat(text, 64)
		if numErr != nil || math.IsNaN(n) || math.Abs(n) > 1e9 {
			return fmt.Errorf("not a duration: use 3.9s, 500ms, 2m or a number of seconds, %s", s.bounds())
		}
		d = time.Duration(n * float64(time.Second))
	}
	if s.zeroOff && d == 0 {
		s.d = 0
		return nil
	}
	if d < s.min || d > s.max {
		return fmt.Errorf("out of range: %s", s.bounds())
	}
	s.d = d
	return nil
}

func (s *seconds) bounds() string {
	off := ""
	if s.zeroOff {
		off = ", or 0 for off"
	}
	return fmt.Sprintf("%v to %v%s", s.min, s.max, off)
}

// A rate is a number of events per second; 0 means no limit.
type rate struct{ perSecond float64 }

const maxRate = 1e9

var errRate = errors.New("not a rate: a number per second from 0.01 to 1000000000, or 0 for no limit")

func (r *rate) String() string { return strconv.FormatFloat(r.perSecond, 'f', -1, 64) }
func (r *rate) Type() string   { return "N" }
func (r *rate) Set(text string) error {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || n != 0 && (n < 0.01 || n > maxRate) {
		return errRate
	}
	r.perSecond = n
	return nil
}

// A count is a whole number with bounds.
type count struct {
	n        int
	min, max int
}

func (c *count) String() string { return strconv.Itoa(c.n) }
func (c *count) Type() string   { return "N" }
func (c *count) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < c.min || n > c.max {
		return fmt.Errorf("not in range: a whole number from %d to %d", c.min, c.max)
	}
	c.n = n
	return nil
}

// A word is one of a few.
type word struct {
	text    string
	choices []string
}

func (w *word) String() string { return w.text }
func (w *word) Type() string   { return "WORD" }
func (w *word) Set(text string) error {
	for _, choice := range w.choices {
		if text == choice {
			w.text = text
			return nil
		}
	}
	return fmt.Errorf("must be one of %s", joinOr(w.choices))
}

func joinOr(words []string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	out := words[0]
	for _, w := range words[1 : len(words)-1] {
		out += ", " + w
	}
	return out + " or " + words[len(words)-1]
}

package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

const (
	// sweepMemory is what a sweep may take beside what it begins with, before
	// garbage is collected as often as that needs: with the program itself it
	// stays below 80 MB, 2,000 conversations under way included.
	sweepMemory = 51 << 20

	// quietGC is the growth in percent after which garbage is collected while
	// nobody is talked to: a dial leaves next to none, so that it comes at no price.
	quietGC = 10

	// talkGC is the same while conversations are held: each leaves some 50 KB, and
	// few are enough to keep the processors busy. sweepMemory bounds it.
	talkGC = 300
)

// limitMemory bounds the memory of a sweep and its reports, unless whoever runs it
// has set how (GOGC, GOMEMLIMIT). It is called when all is made that grows with
// the targets: that stays, and is no garbage.
func (s *sweep) limitMemory() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	limit := debug.SetMemoryLimit(int64(now.HeapAlloc) + sweepMemory)
	growth := talkGC
	if s.f.probe.text == "port" {
		growth = quietGC
	}
	percent := debug.SetGCPercent(growth)
	s.unlimit = func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}
}

// freeMemory gives back what a large sweep needed, now that the reports need as
// much again.
func (s *sweep) freeMemory() {
	if s.tally.total() > journal.BlockAbove {
		debug.FreeOSMemory()
	}
}

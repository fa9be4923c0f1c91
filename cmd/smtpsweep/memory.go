package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"

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

	// busyGC is the same while some conversations are held: each leaves some 50 KB,
	// and few are enough to keep the processors busy. sweepMemory bounds it.
	busyGC = 300

	manyTalk = 32 // conversations from which on it is busy
	fewTalk  = 8  // and down to which it stays so
)

// A talkGC sets how often garbage is collected by how many conversations are held.
type talkGC struct {
	on   bool // limitMemory found nothing set by the user
	busy atomic.Bool
}

// follow is told how many conversations are held.
func (g *talkGC) follow(held int64) {
	switch {
	case !g.on:
	case held == manyTalk && g.busy.CompareAndSwap(false, true):
		debug.SetGCPercent(busyGC)
	case held == fewTalk && g.busy.CompareAndSwap(true, false):
		debug.SetGCPercent(quietGC)
	}
}

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
	percent := debug.SetGCPercent(quietGC)
	s.gc.on = true
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

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// impatience is how long somebody who said "at once" waits at most.
const impatience = 500 * time.Millisecond

// signals are the contexts of a run. The first signal ends scan: no new
// connection is made, what runs may end politely. The end of the grace ends
// talk. The second signal ends talk and now: everything stops where it is.
type signals struct {
	scan, talk, now context.Context
}

// A signalError is the cause of a context that a signal ended.
type signalError struct{ sig os.Signal }

func (e signalError) Error() string { return "stopped by signal " + e.sig.String() }

// code is the exit code that shells give to a program which a signal ended.
func (e signalError) code() int {
	if e.sig == syscall.SIGTERM {
		return exitTerminated
	}
	return exitInterrupt
}

// withSignals watches for signals until stop is called.
func withSignals(parent context.Context) (signals, func()) {
	scan, endScan := context.WithCancelCause(parent)
	talk, endTalk := context.WithCancelCause(parent)
	now, endNow := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // under nohup a run outlives its terminal
		signal.Notify(ch, syscall.SIGHUP)
	}
	quit := make(chan struct{})
	var once sync.Once
	go func() { // ends with stop
		defer signal.Stop(ch)
		var expired <-chan time.Time
		for {
			select {
			case sig := <-ch:
				if scan.Err() != nil {
					endTalk(signalError{sig})
					endNow(signalError{sig})
					continue
				}
				endScan(signalError{sig})
				expired = time.After(grace)
			case <-expired:
				endTalk(context.Cause(scan))
			case <-quit:
				return
			}
		}
	}()
	return signals{scan, talk, now}, func() {
		once.Do(func() { close(quit); endScan(nil); endTalk(nil); endNow(nil) })
	}
}

// stoppedBy returns the signal that ended a context, if one did.
func stoppedBy(ctx context.Context) (sig signalError, ok bool) {
	ok = errors.As(context.Cause(ctx), &sig)
	return sig, ok
}

// interruptedOr returns the exit for a signal if one ended the run, else err.
func interruptedOr(ctx context.Context, err error) error {
	if sig, ok := stoppedBy(ctx); ok {
		return silentExit(sig.code())
	}
	return err
}

// await runs f and returns its error. If ctx ends and f does not end soon after
// (it reads a terminal, say, or writes to a pipe that nobody empties), f is left
// alone and done is false: the process is about to end.
func await(ctx context.Context, f func() error) (done bool, err error) {
	result := make(chan error, 1)
	go func() { result <- f() }() // ends with f, or with the process
	select {
	case err = <-result:
		return true, err
	case <-ctx.Done():
	}
	select {
	case err = <-result:
		return true, err
	case <-time.After(impatience):
		return false, nil
	}
}

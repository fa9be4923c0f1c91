package main

import (
	"fmt"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// showsProgress reports whether a progress line has a place: stderr is a
// terminal, and no rows stream to the same, from which the line would wipe them.
func (s *sweep) showsProgress() bool {
	return s.u.errTTY && !s.u.quiet && !(s.u.outTTY && s.outputs.streams())
}

// startProgress shows one line on stderr while the run goes on, if it has a
// place. It reads counters that the run keeps anyway. The returned function
// takes the line away and waits for its goroutine.
func (s *sweep) startProgress() (stop func()) {
	if !s.showsProgress() {
		return func() {}
	}
	rows := s.job.rows()
	if rows == 0 {
		rows, _ = s.job.contacts() // about as many
	}
	todo := int64(rows - min(rows, s.already))
	p := mpb.New(mpb.WithOutput(s.u.err), mpb.WithRefreshRate(200*time.Millisecond), mpb.WithWidth(20))
	s.u.sayAbove(p)
	begun := time.Now()
	bar := p.New(todo, mpb.BarStyle().Lbound("").Rbound(""), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return s.progressText(todo, begun) })))
	quit, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				bar.SetCurrent(min(int64(s.tally.total()), todo-1))
			case <-quit:
				bar.Abort(true)
				p.Wait()
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		s.u.sayAbove(nil)
		fmt.Fprint(s.u.err, "\r\x1b[K")
	}
}

func (s *sweep) progressText(todo int64, begun time.Time) string {
	done := s.tally.total()
	took := time.Since(begun).Seconds()
	perSecond := float64(done) / max(took, 0.001)
	text := fmt.Sprintf(" %s/%s  %.0f/s  %s open, %s closed, %s filtered", group(done), group(uint64(todo)), perSecond,
		group(s.tally.state[scanner.Open].Load()), group(s.tally.state[scanner.Closed].Load()), group(s.tally.state[scanner.Filtered].Load()))
	if st := s.engine.Stats(); st.Parked > 0 {
		text += fmt.Sprintf(", %d mute", st.Parked)
	}
	// Before the first silent ports time out, the rate says nothing.
	if left := float64(todo) - float64(done); done > 0 && left > 0 && took > 2*s.f.timeout.d.Seconds() {
		text += ", " + about(left/perSecond) + " left"
	}
	return text
}

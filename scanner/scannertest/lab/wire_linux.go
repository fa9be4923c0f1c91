package lab

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The links of the middle namespace, and the function that runs there.
const (
	wireNear = "wr0" // towards the scanner
	wireFar  = "wr1" // towards the router
	wireFunc = "lab.wire"
)

var _ = Register(wireFunc, runWire)

// Passed counts the frames of one endpoint on a wire.
type Passed struct {
	SYN    int // that the scanner sent, lost ones included
	SYNACK int // that were delivered to the scanner, as the next two
	RST    int
	ICMP   int // errors about a segment to the endpoint
	// Late is the longest that the wire held a frame of it beyond its time, as it does
	// where it must wait for a processor: the endpoint was slower than Faults say.
	Late time.Duration
}

// Answers returns how many answers to a SYN were delivered to the scanner.
func (p Passed) Answers() int { return p.SYNACK + p.RST + p.ICMP }

// Traffic is what passed a wire.
type Traffic struct {
	Endpoints map[netip.AddrPort]Passed
	Frames    int // that came, both ways; but for those of the link itself (ARP, neighbour discovery)
	Lost      int // of these, as Faults say
	Copies    int // more than came, as Faults say

	// Overrun counts the frames that were lost for want of room, on the wire or a link of
	// the lab, on a machine that is too busy for so many. What was seen then proves nothing.
	Overrun int
}

// A Wire is the link between the scanner and the router while its faults last.
type Wire struct {
	lab   *Lab
	file  string
	drops int  // of the lab's links, before it began
	over  bool // Stop was called
}

// A wireJob is what the process of a wire is told.
type wireJob struct {
	Faults Faults
	File   string // where it leaves what passed; empty: nobody asks
}

// Wire gives the link between the scanner and the router faults, until t ends or
// Stop is called. Config.Wire must be set. ARP and neighbour discovery pass as they are. A
// frame in flight when a wire begins or ends is lost.
func (l *Lab) Wire(t *testing.T, f Faults) *Wire {
	t.Helper()
	if !l.cfg.Wire {
		t.Fatal("lab: no wire: set Config.Wire")
	}
	w := &Wire{lab: l, file: filepath.Join(t.TempDir(), "traffic.json")}
	if err := l.stopWire(); err != nil {
		t.Fatal(err)
	}
	if err := l.startWire(wireJob{Faults: f, File: w.file}); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.drops, err = l.linkDrops(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !w.over {
			w.Stop(t)
		}
	})
	return w
}

// Stop makes the wire a perfect one again, and returns what passed it before.
func (w *Wire) Stop(t *testing.T) (tr Traffic) {
	t.Helper()
	w.over = true
	drops, err := w.lab.linkDrops()
	if err := errors.Join(err, w.lab.stopWire(), w.lab.startWire(wireJob{})); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(w.file)
	if err == nil {
		err = json.Unmarshal(text, &tr)
	}
	if err != nil {
		t.Fatal(err)
	}
	tr.Overrun = max(tr.Overrun+drops-w.drops, 0)
	return tr
}

// perfectWire starts a wire without faults, if there is to be a wire.
func (l *Lab) perfectWire() error {
	if !l.cfg.Wire {
		return nil
	}
	return l.startWire(wireJob{})
}

// startWire starts the process that is the wire.
func (l *Lab) startWire(job wireJob) (err error) {
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	l.wire, err = l.start(Middle, wireFunc, string(text))
	return err
}

func (l *Lab) stopWire() error {
	if l.wire == nil {
		return nil
	}
	p := l.wire
	l.wire = nil
	if err := p.Stop(); err != nil {
		return fmt.Errorf("wire: %w\n%s", err, p.Output())
	}
	return nil
}

// runWire carries frames until ctx ends.
func runWire(ctx context.Context, args []string) error {
	var job wireJob
	if err := json.Unmarshal([]byte(args[0]), &job); err != nil {
		return err
	}
	near, err := openPort(wireNear)
	if err != nil {
		return err
	}
	defer near.close()
	far, err := openPort(wireFar)
	if err != nil {
		return err
	}
	defer far.close()
	stop, end, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stop.Close()
	stopFD := int(stop.Fd())
	out, in := newWay(job.Faults, outward, far.send), newWay(job.Faults, inward, near.send)
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = out.run(near, stopFD) })
	wg.Go(func() { errs[1] = in.run(far, stopFD) })
	Ready()
	<-ctx.Done()
	end.Close() // and so wakes both
	wg.Wait()
	overrun, err := near.drops()
	more, farErr := far.drops()
	err = errors.Join(errs[0], errs[1], err, farErr)
	if err != nil || job.File == "" {
		return err
	}
	text, err := json.Marshal(Traffic{
		Endpoints: joinPassed(out, in), Frames: out.frames + in.frames, Lost: out.lost + in.lost,
		Copies: out.copies + in.copies, Overrun: overrun + more - near.again - far.again,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(job.File, text, 0o600)
}

// joinPassed puts together what both ways know of each endpoint.
func joinPassed(out, in *way) map[netip.AddrPort]Passed {
	all := map[netip.AddrPort]Passed{}
	for _, w := range []*way{out, in} {
		for endpoint, s := range maps.All(w.seen) {
			p, q := all[endpoint], s.passed
			all[endpoint] = Passed{p.SYN + q.SYN, p.SYNACK + q.SYNACK, p.RST + q.RST, p.ICMP + q.ICMP, max(p.Late, q.Late)}
		}
	}
	return all
}

// A way is one direction of a wire.
type way struct {
	dir     direction
	dealer  *dealer
	send    func([]byte) error
	waiting deliveries
	seen    map[netip.AddrPort]*seenFrames

	frames, lost, copies int
}

// seenFrames is what a way knows of an endpoint.
type seenFrames struct {
	n      uint32 // frames so far
	passed Passed
}

func newWay(f Faults, dir direction, send func([]byte) error) *way {
	return &way{dir: dir, dealer: newDealer(f), send: send, seen: map[netip.AddrPort]*seenFrames{}}
}

// run takes frames from a port and delivers them in their time, until stop is readable or closed.
func (w *way) run(from *port, stop int) error {
	for {
		stopped, err := from.await(stop, w.untilDue(time.Now()))
		if err != nil || stopped {
			return err
		}
		for range slots { // and then asks whether it is to stop
			now := time.Now()
			if err := w.deliver(now); err != nil {
				return err
			}
			frame, came, err := from.next()
			if err != nil {
				return err
			}
			if frame == nil {
				break
			}
			if err := w.take(frame, came, now); err != nil {
				return err
			}
			from.release()
		}
	}
}

// take decides on a frame that came, and sends it, or keeps a copy of it for later.
func (w *way) take(frame []byte, came, now time.Time) error {
	endpoint, kind := parseFrame(frame, w.dir)
	if kind == frameLink {
		return w.send(frame)
	}
	s := w.seen[endpoint]
	if s == nil {
		s = new(seenFrames)
		w.seen[endpoint] = s
	}
	if w.dir == outward && kind == frameSYN {
		s.passed.SYN++
	}
	f := w.dealer.fate(frameKey{w.dir, endpoint, s.n})
	s.n++
	s.passed.Late = max(s.passed.Late, now.Sub(came))
	w.frames++
	switch f.copies {
	case 0:
		w.lost++
	case 2:
		w.copies++
	}
	for _, after := range f.after[:f.copies] {
		d := delivery{at: now.Add(after), n: w.waiting.n, frame: frame, kind: kind, to: s}
		if after == 0 && len(w.waiting.list) == 0 {
			if err := w.hand(d); err != nil {
				return err
			}
			continue
		}
		d.frame = append([]byte(nil), frame...)
		w.waiting.n++
		heap.Push(&w.waiting, d)
	}
	return nil
}

// deliver sends the frames whose time has come.
func (w *way) deliver(now time.Time) error {
	for len(w.waiting.list) > 0 && !w.waiting.list[0].at.After(now) {
		d := heap.Pop(&w.waiting).(delivery)
		d.to.passed.Late = max(d.to.passed.Late, now.Sub(d.at))
		if err := w.hand(d); err != nil {
			return err
		}
	}
	return nil
}

// hand sends a frame now, and counts it.
func (w *way) hand(d delivery) error {
	if w.dir == inward {
		switch d.kind {
		case frameSYNACK:
			d.to.passed.SYNACK++
		case frameRST:
			d.to.passed.RST++
		case frameICMP:
			d.to.passed.ICMP++
		}
	}
	return w.send(d.frame)
}

// untilDue returns how long it is until a frame is to be delivered; negative if none waits.
func (w *way) untilDue(now time.Time) time.Duration {
	if len(w.waiting.list) == 0 {
		return -1
	}
	return max(w.waiting.list[0].at.Sub(now), 0)
}

// A delivery is a frame on its way.
type delivery struct {
	at    time.Time
	n     uint64 // what came first goes first, at the same time
	frame []byte
	kind  frameKind
	to    *seenFrames
}

// deliveries are in order of their time. They implement heap.Interface.
type deliveries struct {
	list []delivery
	n    uint64 // of the next one
}

// Len is of heap.Interface.
func (d *deliveries) Len() int { return len(d.list) }

// Less is of heap.Interface.
func (d *deliveries) Less(i, j int) bool {
	if c := d.list[i].at.Compare(d.list[j].at); c != 0 {
		return c < 0
	}
	return d.list[i].n < d.list[j].n
}

// Swap is of heap.Interface.
func (d *deliveries) Swap(i, j int) { d.list[i], d.list[j] = d.list[j], d.list[i] }

// Push is of heap.Interface.
func (d *deliveries) Push(x any) { d.list = append(d.list, x.(delivery)) }

// Pop is of heap.Interface.
func (d *deliveries) Pop() any {
	last := len(d.list) - 1
	x := d.list[last]
	d.list[last] = delivery{} // let go of the frame
	d.list = d.list[:last]
	return x
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// These tests hold a sweep to its first promise: each endpoint once, none
// outside, in whatever shards, whatever is excluded and wherever it was cut
// short. They know what is right from arithmetic of their own on offsets.

// A coverage is a run of addresses times ports, less exclusions, and which of
// its endpoints have come.
type coverage struct {
	spec    string // as typed
	base    netip.Addr
	size    uint64 // addresses
	ports   []uint16
	exclude []string
	left    []bool   // by offset: not excluded
	seen    []uint64 // a bit for each endpoint, by offset and port
	count   uint64
	partial []byte // of a line, see Write
}

// newCoverage covers size addresses from base on; as a prefix if bits is not 0.
func newCoverage(r *rand.Rand, base netip.Addr, size uint64, bits int) *coverage {
	c := &coverage{base: base, size: size, left: make([]bool, size)}
	c.spec = base.String() + "-" + c.addr(size-1).String()
	if bits > 0 {
		c.spec = netip.PrefixFrom(base, bits).String()
	}
	for i := range c.left {
		c.left[i] = true
	}
	most := 1 + r.IntN(3)
	for _, p := range r.Perm(2000)[:most] {
		if len(c.ports) == 0 || size*uint64(len(c.ports)+1) <= 1<<22 {
			c.ports = append(c.ports, uint16(1+p))
		}
	}
	c.seen = make([]uint64, (size*uint64(len(c.ports))+63)/64)
	return c
}

// addr returns the address at an offset, which may be beyond the end.
func (c *coverage) addr(offset uint64) netip.Addr {
	b := c.base.AsSlice()
	for i := len(b) - 1; offset > 0; i-- {
		offset += uint64(b[i])
		b[i] = byte(offset)
		offset >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// offset returns where an address lies; it is size or more if it is outside.
func (c *coverage) offset(a netip.Addr) uint64 {
	x, y := a.As16(), c.base.As16()
	n := uint64(0)
	borrow := 0
	for i := 15; i >= 0; i-- {
		d := int(x[i]) - int(y[i]) - borrow
		borrow = 0
		if d < 0 {
			d, borrow = d+256, 1
		}
		if shift := 8 * (15 - i); shift < 64 {
			n |= uint64(d) << shift
		} else if d != 0 {
			return c.size
		}
	}
	return n
}

// excludeSome excludes addresses, ranges and blocks by chance.
func (c *coverage) excludeSome(r *rand.Rand) {
	for range r.IntN(9) {
		from := int64(r.Uint64N(c.size))
		to, addr := from, c.addr(uint64(from))
		text := addr.String()
		switch r.IntN(3) {
		case 0: // a range, at times beyond the end
			to += int64(r.Uint64N(c.size/4 + 2))
			text += "-" + c.addr(uint64(to)).String()
		case 1: // a block, at times from before the first address
			host := r.IntN(8)
			block := netip.PrefixFrom(addr, addr.BitLen()-host).Masked()
			last := addr.AsSlice()[addr.BitLen()/8-1]
			from -= int64(last & (1<<host - 1))
			to = from + 1<<host - 1
			text = block.String()
		}
		c.exclude = append(c.exclude, text)
		for i := max(from, 0); i <= min(to, int64(c.size)-1); i++ {
			c.left[i] = false
		}
	}
}

// args are the arguments of a scan of one shard.
func (c *coverage) args(seed, shard, shards uint64) []string {
	var ports []string
	for _, p := range c.ports {
		ports = append(ports, strconv.Itoa(int(p)))
	}
	args := []string{"scan", c.spec, "-q", "-p", strings.Join(ports, ","), "--seed", fmt.Sprint(seed), "--shard", fmt.Sprintf("%d/%d", shard, shards)}
	if len(c.exclude) > 0 {
		args = append(args, "--exclude", strings.Join(c.exclude, ","))
	}
	return args
}

// take notes that an endpoint has come, and says what is wrong with that.
func (c *coverage) take(ap netip.AddrPort) error {
	at := c.offset(ap.Addr())
	port := 0
	for port < len(c.ports) && c.ports[port] != ap.Port() {
		port++
	}
	if at >= c.size || port == len(c.ports) || !c.left[at] {
		return fmt.Errorf("%s comes, and is outside or excluded", ap)
	}
	i := at*uint64(len(c.ports)) + uint64(port)
	if c.seen[i/64]>>(i%64)&1 == 1 {
		return fmt.Errorf("%s comes twice", ap)
	}
	c.seen[i/64] |= 1 << (i % 64)
	c.count++
	return nil
}

// want returns how many endpoints there are.
func (c *coverage) want() (n uint64) {
	for _, left := range c.left {
		if left {
			n += uint64(len(c.ports))
		}
	}
	return n
}

// Write reads the lines of a dry run.
func (c *coverage) Write(p []byte) (int, error) {
	rest := append(c.partial, p...)
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			c.partial = append(c.partial[:0], rest...)
			return len(p), nil
		}
		ap, err := netip.ParseAddrPort(string(line))
		if err == nil {
			err = c.take(ap)
		}
		if err != nil {
			return 0, err
		}
		rest = after
	}
}

// dryRun runs the command and takes what it lists.
func (c *coverage) dryRun(t *testing.T, args ...string) {
	t.Helper()
	var said bytes.Buffer
	code := run(append(args, "--dry-run"), newUI(strings.NewReader(""), c, &said))
	if code != exitDone && (code != exitUsage || c.want() > 0) || len(c.partial) > 0 {
		t.Fatalf("%q: exit code %d, %q, %s", args, code, c.partial, said.String())
	}
}

// check fails unless every endpoint has come.
func (c *coverage) check(t *testing.T) {
	t.Helper()
	if want := c.want(); c.count != want {
		t.Fatalf("%s, ports %v, without %v: %d endpoints came, want %d", c.spec, c.ports, c.exclude, c.count, want)
	}
}

// someBase returns an address by chance under which 2^bits more have room.
func someBase(r *rand.Rand, bits int, six bool) netip.Addr {
	if six {
		a := netip.MustParseAddr("fd00::").As16()
		for i := 1; i < 16; i++ {
			a[i] = byte(r.IntN(256))
		}
		p, _ := netip.AddrFrom16(a).Prefix(128 - bits)
		return p.Addr()
	}
	n := uint32(10)<<24 | r.Uint32N(1<<24)
	n = n >> bits << bits
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestADryRunOfAnySizeListsEachEndpointOnce(t *testing.T) {
	t.Parallel()
	const most = 5000
	sizes := lab.Count(t, 25, 60, most)
	inFourParts(t, sizes, func(t *testing.T, i int) {
		r := rand.New(rand.NewPCG(uint64(i), 9))
		first, next := i*most/sizes, (i+1)*most/sizes // all of them in the long tier
		size := uint64(first+1) + r.Uint64N(uint64(next-first))
		c := newCoverage(r, someBase(r, 13, r.IntN(4) == 0), size, 0)
		c.excludeSome(r)
		mostShards := uint64(8) // each is a run of the command
		if i/4%4 == 0 {
			mostShards = 64
		}
		shards := 1 + r.Uint64N(mostShards)
		for shard := range shards {
			c.dryRun(t, c.args(uint64(i), shard+1, shards)...)
		}
		c.check(t)
	})
}

func TestADryRunOfAnyPrefixListsEachEndpointOnce(t *testing.T) {
	t.Parallel()
	widest := lab.Count(t, 16, 16, 24) // host bits: /8 is 24
	inFourParts(t, 2*(widest+1), func(t *testing.T, i int) {
		r := rand.New(rand.NewPCG(uint64(i), 10))
		hostBits, six := i/2, i%2 == 1
		base := someBase(r, hostBits, six)
		c := newCoverage(r, base, 1<<hostBits, base.BitLen()-hostBits)
		c.excludeSome(r)
		shards := 1 + r.Uint64N(64)
		for shard := range shards {
			c.dryRun(t, c.args(uint64(i), shard+1, shards)...)
		}
		c.check(t)
	})
}

// inFourParts calls f with 0 to n-1, side by side.
func inFourParts(t *testing.T, n int, f func(t *testing.T, i int)) {
	for part := range 4 {
		t.Run(fmt.Sprint("part ", part+1), func(t *testing.T) {
			t.Parallel()
			for i := part; i < n; i += 4 {
				f(t, i)
			}
		})
	}
}

// A run that is cut short at any point, over and over, goes on with what has no
// row: what was in flight comes again, nothing else does.
func TestARunResumedAnywhereProbesEachEndpointOnce(t *testing.T) {
	t.Parallel()
	inFourParts(t, lab.Count(t, 40, 60, 1000), func(t *testing.T, i int) {
		r := rand.New(rand.NewPCG(uint64(i), 11))
		bits := r.IntN(13)
		if i%16 == 3 { // above 65,536 endpoints silence is written by blocks
			bits = 16 + r.IntN(2)
		}
		c := newCoverage(r, someBase(r, 18, r.IntN(4) == 0), 1<<bits-r.Uint64N(1<<bits), 0)
		c.excludeSome(r)
		if c.want() == 0 {
			return
		}
		shards := 1 + r.Uint64N(8)
		for shard := range shards {
			path := filepath.Join(t.TempDir(), "run.jsonl")
			c.partOf(t, r, append(c.args(uint64(i), shard+1, shards), "-o", path)...)
			for range r.IntN(3) {
				c.partOf(t, r, "scan", "-q", "--resume", path)
			}
			c.dryRun(t, "scan", "-q", "--resume", path)
		}
		c.check(t)
	})
}

// partOf does what a scan does until it is cut short: it takes endpoints from
// the sweep's source, and most of them get a row. The others were in flight.
func (c *coverage) partOf(t *testing.T, r *rand.Rand, args ...string) {
	t.Helper()
	s := openSweep(t, args...)
	source := s.targetSource()
	for range r.Uint64N(s.job.order.Len() + 1) {
		target, ok := source()
		if !ok {
			break
		}
		if r.IntN(8) == 0 {
			continue
		}
		if err := c.take(target.AddrPort()); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		reason, state := scanner.NoResponse, scanner.Filtered
		if r.IntN(4) == 0 {
			reason, state = scanner.ConnRefused, scanner.Closed
		}
		s.record(&scanner.Result{Observation: scanner.Observation{Target: target, State: state, Reason: reason, At: time.Now(), Attempts: 1}})
	}
	if err := s.writer.Close(); err != nil {
		t.Fatal(err)
	}
}

// openSweep prepares a scan and its journal, and does not begin it.
func openSweep(t *testing.T, args ...string) (s *sweep) {
	t.Helper()
	u := newUI(strings.NewReader(""), io.Discard, io.Discard)
	f := &scanFlags{}
	cmd := newScanCommand(u, f, func(cmd *cobra.Command, specs []string) error {
		s = &sweep{u: u, f: f, flags: cmd.Flags(), specs: specs, noted: map[string]bool{}, started: time.Now()}
		return errors.Join(s.prepare(t.Context()), s.openJournal())
	})
	cmd.SetArgs(args[1:])
	if err := cmd.Execute(); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return s
}

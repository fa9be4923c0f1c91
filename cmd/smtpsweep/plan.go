package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A job is what a run is about: the plan, and what its names led to.
type job struct {
	plan      *targets.Plan
	order     targets.Order
	shard     targets.Shard
	answers   *targets.Answers // of the shard's names; nil if the plan has no names
	asked     []uint32         // numbers of the names whose answers the journal does not have yet
	domains   bool             // some names are mx: domains
	names     survey           // what the names led to
	files     []journal.File
	resolvers []string
	invented  []netip.Addr // what the resolver answered for a name that does not exist

	once sync.Once
	size extent // see extent
}

// targetConfig turns the flags into what the targets package asks for.
func (f *scanFlags) targetConfig() (targets.Config, error) {
	cfg := targets.Config{AllowPrivate: f.allowPrivate, AllowReserved: f.allowReserved, Only4: f.only4, Only6: f.only6, Broadcast: broadcastAddresses()}
	if f.only4 && f.only6 {
		return cfg, fail(exitUsage, "-4 and -6 together leave no address: give one of them or none")
	}
	var err error
	if cfg.Ports, err = targets.ParsePorts(f.ports); err != nil {
		return cfg, fail(exitUsage, "-p: %w", err)
	}
	cfg.Exclude = targets.NewExclusions()
	for _, list := range f.exclude {
		for _, spec := range strings.Split(list, ",") {
			if err := cfg.Exclude.Add(strings.TrimSpace(spec)); err != nil {
				return cfg, fail(exitUsage, "--exclude: %w", err)
			}
		}
	}
	for _, name := range f.excludeFiles {
		if err := readExclusions(cfg.Exclude, name); err != nil {
			return cfg, withHint(fail(exitUsage, "%w", err), "without the exclusions that were asked for nothing is scanned")
		}
	}
	return cfg, nil
}

func readExclusions(to *targets.Exclusions, name string) error {
	in, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("--exclude-file %s: %w", clip(name), plainPathError(err))
	}
	defer in.Close()
	return to.ReadFile("--exclude-file "+name, in)
}

// buildPlan reads the typed specs and the lists.
func (f *scanFlags) buildPlan(u *ui, cfg targets.Config, specs []string) (*targets.Plan, []journal.File, error) {
	if len(specs) == 0 && len(f.inputs) == 0 {
		return nil, nil, withHint(fail(exitUsage, "no target"), "an address, a block, a name or mx:DOMAIN, or -i FILE: smtpsweep scan 192.0.2.0/24")
	}
	b := targets.NewBuilder(cfg)
	for _, spec := range specs {
		if err := b.Add(spec); err != nil {
			return nil, nil, specError(spec, err)
		}
		if isFile(spec) {
			u.say("Notice: %s is read as a name, and it is a file as well: -i %s reads targets from it", clip(spec), clip(spec))
		}
	}
	var files []journal.File
	for i, name := range f.inputs {
		if name == "-" && slices.Contains(f.inputs[:i], name) {
			return nil, nil, fail(exitUsage, "-i - is given twice, and stdin can be read once")
		}
		file, err := f.readList(u, b, name)
		if err != nil {
			return nil, nil, planError(err)
		}
		files = append(files, file)
	}
	plan, err := b.Build(f.seed)
	if err = planError(err); errors.Is(err, targets.ErrNothingLeft) && (f.only4 || f.only6) {
		err = withHint(err, "-4 leaves out IPv6 addresses, -6 IPv4 ones")
	}
	return plan, files, err
}

// specError adds the hint for a file's name where a target should stand.
func specError(spec string, err error) error {
	err = planError(err)
	if isFile(spec) {
		return withHint(err, fmt.Sprintf("%s is a file: -i %s reads targets from it", clip(spec), clip(spec)))
	}
	return err
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// planError gives the errors of the targets package their exit codes.
func planError(err error) error {
	var bad *targets.SpecError
	var refused *targets.RefusedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && !errors.As(err, &bad): // a list may have both
		return fail(exitRefused, "%w", err)
	}
	return fail(exitUsage, "%w", err)
}

func (f *scanFlags) readList(u *ui, b *targets.Builder, name string) (journal.File, error) {
	in, label := u.in, "stdin"
	if name == "" {
		return journal.File{}, errors.New("-i: the name of the file is empty")
	}
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return journal.File{}, fmt.Errorf("-i %s: %w", clip(name), plainPathError(err))
		}
		defer file.Close()
		in, label = file, name
	}
	counted := &hashReader{r: in, sum: sha256.New()}
	if err := b.ReadFile(label, counted); err != nil {
		return journal.File{}, err
	}
	return journal.File{Path: name, SHA256: hex.EncodeToString(counted.sum.Sum(nil)), Bytes: counted.n}, nil
}

// A hashReader counts and hashes what passes.
type hashReader struct {
	r   io.Reader
	sum hash.Hash
	n   uint64
}

func (h *hashReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.sum.Write(p[:n])
	h.n += uint64(n)
	return n, err
}

// chooseSeed gives a run its seed where the user named none.
func chooseSeed(seed uint64, given bool) uint64 {
	if given {
		return seed
	}
	return rand.Uint64() >> 1 // 63 bits: JSON readers that know only floats and int64 keep most of it
}

// public reports whether anything is contacted that is public.
func (j *job) public() bool { return j.plan.Public() || j.names.public }

// private reports whether nothing is contacted but private and loopback addresses.
func (j *job) private() bool { return j.plan.Private() && !j.names.strange }

// An extent is how much a run contacts: of its shard, and what is left after
// exclusions.
type extent struct {
	endpoints, addresses uint64
	exact                bool   // otherwise it is about as many
	host, subnet         uint64 // most endpoints at one address, and in one subnet
}

// maxCounted bounds the part of a plan that is counted one by one.
const maxCounted = 1 << 20

// extent counts once: the plan and its answers do not change.
func (j *job) extent() extent {
	j.once.Do(func() {
		x, names := j.planExtent(), j.names.contacts
		x.endpoints, x.addresses = x.endpoints+names.endpoints, x.addresses+names.addresses
		x.host, x.subnet = max(x.host, names.host), max(x.subnet, names.subnet)
		j.size = x
	})
	return j.size
}

// planExtent is the extent of the plan's addresses.
func (j *job) planExtent() extent {
	x := extent{endpoints: j.plan.Probed(), addresses: j.plan.Addresses(), exact: true}
	x.host, x.subnet = j.plan.Crowds()
	if j.shard.N <= 1 {
		return x
	}
	x.host, x.subnet = partOf(x.host, j.shard.N), partOf(x.subnet, j.shard.N)
	if j.order.Len() > maxCounted {
		x.endpoints, x.exact = partOf(x.endpoints, j.shard.N), false
		if j.plan.Probed() == j.plan.Len() {
			x.endpoints = j.order.Len()
		}
		x.addresses = min(x.addresses, x.endpoints)
		return x
	}
	x.endpoints, x.addresses = 0, 0
	var last netip.Addr
	for i := j.shard.I - 1; i < j.plan.Len(); i += j.shard.N { // in order of address
		t := j.plan.At(i)
		if ok, _ := j.plan.PermitTarget(t); !ok {
			continue
		}
		x.endpoints++
		if t.Addr != last {
			x.addresses, last = x.addresses+1, t.Addr
		}
	}
	return x
}

// partOf returns the size of one of n equal parts, rounded up.
func partOf(all, n uint64) uint64 { return (all + n - 1) / n }

// contacts counts the endpoints that will be contacted, and the addresses.
func (j *job) contacts() (endpoints, addresses uint64) {
	x := j.extent()
	return x.endpoints, x.addresses
}

// rows returns how many rows the run will have, those of names that are not
// contacted too, or 0 if that would take long to count: the part of a plan that
// a shard has left after exclusions.
func (j *job) rows() uint64 {
	x := j.extent()
	if !x.exact && j.plan.Probed() != j.plan.Len() {
		return 0
	}
	return x.endpoints - j.names.contacts.endpoints + j.names.rows
}

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// paceFlags are those whose defaults depend on who is contacted.
var paceFlags = []string{"rate", "host-limit", "host-interval", "subnet-rate"}

// A recordedConfig is the run record's "config": what makes this run again.
type recordedConfig struct {
	Command string              `json:"command,omitempty"` // empty: scan
	Targets []string            `json:"targets"`
	Flags   map[string][]string `json:"flags"`           // as they hold, typed or not
	Unset   []string            `json:"unset,omitempty"` // of the paceFlags: they follow the targets
	Ports   string              `json:"ports,omitempty"` // of the plan: targets may have ports of their own
}

// flagValues returns the values of a flag, several for a repeatable one.
func flagValues(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
}

func (s *sweep) recordedConfig() (json.RawMessage, error) {
	c := recordedConfig{Targets: s.specs, Flags: map[string][]string{}}
	s.flags.VisitAll(func(f *pflag.Flag) {
		values := flagValues(f)
		if f.Name == "output" {
			values = absolute(values) // a run may be gone on with elsewhere
		}
		if f.Name != "help" && f.Name != "resume" && len(values) > 0 {
			c.Flags[f.Name] = values
		}
	})
	ports, _ := s.job.plan.Ports()
	c.Ports = targets.PortsText(ports)
	c.Unset = slices.DeleteFunc(slices.Clone(paceFlags), s.flags.Changed)
	return json.Marshal(c)
}

// journalError gives the errors of the journal their exit codes.
func journalError(path string, err error) error {
	var damage *journal.DamageError
	var writing *journal.WriteError
	var sorting *journal.SortError
	switch {
	case errors.As(err, &sorting): // not the journal's fault
		return withHint(fail(exitOutput, "%w", err), "TMPDIR names another folder for temporary files")
	case errors.As(err, &writing), errors.Is(err, syscall.EROFS):
		return fail(exitOutput, "%w", err)
	case errors.As(err, &damage) && strings.HasPrefix(damage.Why, "this is not a journal"):
		return fail(exitJournal, "%w", err) // there is nothing to salvage
	case errors.As(err, &damage):
		return withHint(fail(exitJournal, "%w", err), salvageHint(path))
	case errors.Is(err, journal.ErrExists):
		return withHint(fail(exitUsage, "%s exists already", path), goOnOrAnew(path))
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return fail(exitUsage, "%s: %w", path, plainPathError(err))
	}
	return fail(exitJournal, "%w", err)
}

// salvageHint says how to get at the sound rows of a damaged journal, and on.
func salvageHint(path string) string {
	return "smtpsweep report --salvage " + shellWord(path) + " reads what is whole; with -o NEW.jsonl it is written to a journal that smtpsweep scan --resume NEW.jsonl goes on with"
}

// openJournal begins the journal of a new run, or goes on with that of --resume.
func (s *sweep) openJournal() error {
	open := s.createJournal
	if s.resumed != nil {
		open = s.journalChanges
	}
	if err := open(); err != nil {
		return err
	}
	if !s.hooks.temporary {
		s.keepLast()
	}
	return nil
}

// createJournal begins a journal: an output that is a .jsonl, else a file in the
// state directory.
func (s *sweep) createJournal() error {
	run, err := s.runRecord()
	if err != nil {
		return err
	}
	if s.path, err = s.journalPath(); err != nil {
		return err
	}
	if s.writer, err = journal.Create(s.path, run); errors.Is(err, journal.ErrExists) {
		return journalError(s.path, err)
	} else if err != nil {
		return fail(exitOutput, "%w", err)
	}
	for record := range s.job.plan.Records() {
		if err := s.writer.Append(record); err != nil {
			return fail(exitOutput, "%w", err)
		}
	}
	return nil
}

// keepLast makes `smtpsweep report last` find a journal that lies outside of
// the state directory, and leaves the newest there.
func (s *sweep) keepLast() {
	dir, err := journal.StateDir()
	if err == nil {
		err = journal.Link(dir, s.path, time.Now(), os.Getpid())
	}
	if err != nil {
		s.u.say("smtpsweep report last will not find this run: %s", err)
		return
	}
	journal.Prune(dir, journal.Keep) // keeping too many is no reason not to run
}

func (s *sweep) journalPath() (string, error) {
	if s.hooks.temporary && s.outputs.journal == "" {
		f, err := os.CreateTemp("", "smtpsweep-demo-*.jsonl")
		if err != nil {
			return "", fail(exitOutput, "%w", err)
		}
		f.Close()
		os.Remove(f.Name())
		return f.Name(), nil
	}
	if s.outputs.journal != "" {
		return s.outputs.journal, nil
	}
	dir, err := journal.StateDir()
	if err != nil {
		code := exitEnvironment // there is no home
		if _, ok := errors.AsType[*os.PathError](err); ok {
			code = exitOutput
		}
		return "", withHint(fail(code, "%w", err), "-o FILE.jsonl names one")
	}
	return filepath.Join(dir, journal.NewName(time.Now(), os.Getpid())), nil
}

func (s *sweep) runRecord() (journal.Run, error) {
	config, err := s.recordedConfig()
	if err != nil {
		return journal.Run{}, fail(exitEnvironment, "%w", err)
	}
	host, _ := os.Hostname()
	run := journal.Run{
		Version: version(), Args: append([]string{"smtpsweep"}, os.Args[1:]...), Started: s.started.UTC(), Host: host, User: userName(),
		Vantage: s.vantage, Gateway: defaultGateway(), Resolvers: s.job.resolvers,
		Seed: s.job.plan.Seed(), PlanHash: s.job.plan.Hash(), Endpoints: s.job.rows(), Names: s.job.plan.NameCount(),
		Shard: s.f.shard, Config: config, ConfigHash: hashHex(config), Files: s.job.files,
	}
	if a := s.sourceAddress(); a.IsValid() {
		run.Source = a.String()
	}
	return run, nil
}

// userName returns who runs this, "" if it is not known.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// configOf reads the configuration in a run record.
func configOf(run journal.Run) (c recordedConfig, err error) {
	err = json.Unmarshal(run.Config, &c)
	return c, err
}

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// journalAnswers writes what the DNS said, before the first probe: a run that is
// killed and gone on with looks at the same addresses.
func (s *sweep) journalAnswers() {
	if text := s.job.inventedText(); text != "" {
		s.note("resolver-invents", text)
	}
	for _, i := range s.job.asked {
		_, answer, _ := s.job.answers.At(int(i))
		if err := s.writer.Put("answer", answer); err != nil {
			return // sticky: run watches Failed
		}
	}
	if len(s.job.asked) > 0 {
		s.writer.Sync() // the same
	}
}

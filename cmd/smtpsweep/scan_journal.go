package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

// mayChange are the flags that --resume lets differ from the journal: pace and
// limits, and what is only about this part of the run. More exclusions are added
// to the journal's.
var mayChange = slices.Concat(paceFlags, ofTheMoment, []string{
	"timeout", "retries", "greeting-timeout", "patience", "format", "csv-bom", "show", "expect", "yes",
	"exclude", "exclude-file", "resolver", "ca",
})

// paceFlags are those whose defaults depend on who is contacted.
var paceFlags = []string{"rate", "host-limit", "host-interval", "subnet-rate"}

// ofTheMoment are the flags that a journal does not pass on: outputs would be
// overwritten, and how much is said is for whoever goes on with the run to say.
var ofTheMoment = []string{"resume", "config", "dry-run", "output", "force", "quiet", "verbose", "no-color"}

// A recordedConfig is the run record's "config": what makes this run again.
type recordedConfig struct {
	Targets []string            `json:"targets"`
	Flags   map[string][]string `json:"flags"`           // as they hold, typed or not
	Unset   []string            `json:"unset,omitempty"` // of the paceFlags: they follow the targets
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
		if values := flagValues(f); f.Name != "help" && f.Name != "resume" && len(values) > 0 {
			c.Flags[f.Name] = values
		}
	})
	c.Unset = slices.DeleteFunc(slices.Clone(paceFlags), s.flags.Changed)
	return json.Marshal(c)
}

// recall takes the flags of an earlier run from its journal. What the user
// typed now wins where it may differ, and is an error where it may not.
func (s *sweep) recall() (err error) {
	if s.f.resume, err = journalNamed(s.f.resume); err != nil {
		return err
	}
	run, c, err := readRun(s.f.resume)
	if err != nil {
		return err
	}
	if len(s.specs) > 0 && !slices.Equal(s.specs, c.Targets) {
		return withHint(fail(exitJournal, "%s is of other targets than those typed now", s.f.resume), "--resume takes the targets from the journal: give none")
	}
	s.specs, s.recorded = c.Targets, c
	if err := s.checkNewFlags(c); err != nil {
		return err
	}
	check := checkFiles
	if s.flags.Changed("input") {
		check = s.checkInputs
	}
	for _, name := range slices.Sorted(maps.Keys(c.Flags)) {
		if err := s.recallFlag(name); err != nil {
			return err
		}
	}
	return check(run.Files)
}

// recallFlag gives a flag the value that the journal has for it.
func (s *sweep) recallFlag(name string) error {
	flag, values := s.flags.Lookup(name), s.recorded.Flags[name]
	if flag == nil || len(values) == 0 || slices.Contains(ofTheMoment, name) {
		return nil
	}
	switch {
	case strings.HasPrefix(name, "exclude"): // they add up
	case flag.Changed && (name == "input" || slices.Contains(mayChange, name)):
		return nil // lists are compared by what is in them
	case flag.Changed:
		if now := flagValues(flag); !slices.Equal(now, values) {
			return fail(exitJournal, "%s was made with --%s %s, not %s", s.f.resume, name, strings.Join(values, " "), strings.Join(now, " "))
		}
		return nil
	case slices.Contains(s.recorded.Unset, name):
		return nil
	}
	if err := setFlag(s.flags, flag, values); err != nil {
		return fail(exitJournal, "%s: --%s %s: %w", s.f.resume, name, strings.Join(values, " "), err)
	}
	return nil
}

// setFlag sets a flag, as if it had been typed; to one that is a list it adds
// what the list has not.
func setFlag(flags *pflag.FlagSet, flag *pflag.Flag, values []string) error {
	list, isList := flag.Value.(pflag.SliceValue)
	switch {
	case !isList && values[0] != flag.Value.String(): // else it may be empty, which few flags can be set to
		return flags.Set(flag.Name, values[0])
	case !isList:
		flag.Changed = true
		return nil
	}
	for _, value := range values {
		if slices.Contains(list.GetSlice(), value) {
			continue
		}
		if err := list.Append(value); err != nil {
			return err
		}
	}
	return nil
}

// checkNewFlags refuses a flag that the earlier run did not have.
func (s *sweep) checkNewFlags(c recordedConfig) (err error) {
	s.flags.Visit(func(f *pflag.Flag) {
		if _, known := c.Flags[f.Name]; !known && !slices.Contains(mayChange, f.Name) && err == nil {
			err = fail(exitJournal, "%s was made without --%s", s.f.resume, f.Name)
		}
	})
	return err
}

// checkInputs compares the lists that are given again with those of the earlier
// run: by content, because a path means another file in another directory.
func (s *sweep) checkInputs(files []journal.File) error {
	again := len(s.f.inputs) == len(files)
	for i, name := range s.f.inputs {
		if !again {
			break
		}
		sum, err := hashList(s.u.in, name)
		if err != nil {
			return fail(exitUsage, "-i %s: %w", clip(name), plainPathError(err))
		}
		again = sum == files[i].SHA256
	}
	if !again {
		return withHint(fail(exitJournal, "%s is of other lists than those given now with -i", s.f.resume), "start a new run; --resume takes the targets from the journal")
	}
	return nil
}

// hashList returns the SHA-256 of a list, in hex; "-" is stdin.
func hashList(stdin io.Reader, name string) (string, error) {
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer file.Close()
		in = file
	}
	sum := sha256.New()
	_, err := io.Copy(sum, in)
	return hex.EncodeToString(sum.Sum(nil)), err
}

// checkFiles compares the lists of an earlier run with what they are now. The
// journal holds the plan: a list that is gone, or was a pipe, is not missed.
func checkFiles(files []journal.File) error {
	for _, file := range files {
		info, err := os.Stat(file.Path)
		if file.Path == "-" || errors.Is(err, os.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		sum, err := hashList(nil, file.Path)
		if err != nil {
			return fail(exitUsage, "-i %s: %w", file.Path, plainPathError(err))
		}
		if sum != file.SHA256 {
			return withHint(fail(exitJournal, "-i %s has changed since the journal was begun", file.Path), "start a new run, or restore the list")
		}
	}
	return nil
}

// readRun reads the run record and the configuration that holds now: a run that
// was gone on with may have more exclusions than it began with.
func readRun(path string) (journal.Run, recordedConfig, error) {
	var c recordedConfig
	r, err := journal.Open(path)
	if err != nil {
		return journal.Run{}, c, journalError(path, err)
	}
	defer r.Close()
	run := r.Run()
	if err := json.Unmarshal(run.Config, &c); err != nil {
		return run, c, fail(exitJournal, "%s: its run record has no readable configuration", path)
	}
	for rec, err := range r.Records() {
		if err != nil {
			return run, c, journalError(path, err)
		}
		var later struct {
			Config *recordedConfig `json:"config"`
		}
		if rec.Type == "resume" && json.Unmarshal(rec.Line, &later) == nil && later.Config != nil {
			c = *later.Config
		}
	}
	return run, c, nil
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
		return withHint(fail(exitJournal, "%w", err), "smtpsweep report --salvage reads what is whole")
	case errors.Is(err, journal.ErrExists):
		return withHint(fail(exitUsage, "%s exists already", path), fmt.Sprintf("smtpsweep scan --resume %s goes on with it; another name starts anew", shellWord(path)))
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return fail(exitUsage, "%s: %w", path, plainPathError(err))
	}
	return fail(exitJournal, "%w", err)
}

// openResumed takes up the journal of --resume.
func (s *sweep) openResumed(cfg targets.Config) error {
	w, recovered, err := journal.Resume(s.f.resume, cfg)
	if err != nil {
		return journalError(s.f.resume, err)
	}
	if recovered.Plan == nil {
		w.Close()
		return fail(exitJournal, "%s is not the journal of a scan: it has no plan", s.f.resume)
	}
	s.writer, s.resumed, s.path = w, recovered, s.f.resume
	s.already = uint64(recovered.Done.Len()) + uint64(recovered.DoneNames.Len())
	s.started = time.Now()
	return nil
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
		s.u.say("smtpsweep report last will not find this run: %s", oneLine(err.Error()))
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
		return "", withHint(fail(exitOutput, "no place for the journal: %w", err), "-o FILE.jsonl names one")
	}
	return filepath.Join(dir, journal.NewName(time.Now(), os.Getpid())), nil
}

func (s *sweep) runRecord() (journal.Run, error) {
	config, err := s.recordedConfig()
	if err != nil {
		return journal.Run{}, fail(exitEnvironment, "%w", err)
	}
	host, _ := os.Hostname()
	who := ""
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	run := journal.Run{
		Version: version(), Args: append([]string{"smtpsweep"}, os.Args[1:]...), Started: s.started.UTC(), Host: host, User: who,
		Vantage: s.vantage, Gateway: defaultGateway(), Resolvers: s.job.resolvers,
		Seed: s.job.plan.Seed(), PlanHash: s.job.plan.Hash(), Endpoints: s.job.rows(), Names: s.job.plan.NameCount(),
		Shard: s.f.shard, Config: config, ConfigHash: hashHex(config), Files: s.job.files,
	}
	if a := s.sourceAddress(); a.IsValid() {
		run.Source = a.String()
	}
	return run, nil
}

// configFlag returns the value of a flag in a run record, or "".
func configFlag(run journal.Run, name string) string {
	var c recordedConfig
	if json.Unmarshal(run.Config, &c) != nil || len(c.Flags[name]) == 0 {
		return ""
	}
	return c.Flags[name][0]
}

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// journalAnswers writes what the DNS said, before the first probe: a run that is
// killed and gone on with looks at the same addresses.
func (s *sweep) journalAnswers() {
	for _, answer := range s.job.answers {
		if err := s.writer.Put("answer", answer); err != nil {
			return // sticky: run watches Failed
		}
	}
	if len(s.job.answers) > 0 {
		s.writer.Sync() // the same
	}
}

// settled returns the answers that another look-up would not better: what could
// not be asked is asked again.
func settled(answers map[string]targets.Answer) map[string]targets.Answer {
	out := map[string]targets.Answer{}
	for name, a := range answers {
		failed := func(h targets.HostAnswer) bool { return h.Why == targets.DNSError }
		if a.Why != targets.DNSError && !slices.ContainsFunc(a.Hosts, failed) {
			out[name] = a
		}
	}
	return out
}

// A resumption is the record of a run that goes on with more exclusions. Without
// it the next --resume would contact what this one left out.
type resumption struct {
	Time       time.Time       `json:"time"`
	Config     json.RawMessage `json:"config"`
	ConfigHash string          `json:"config_hash"`
}

// journalChanges records what a resumed run excludes beyond its journal, before
// anything is sent: also if that leaves nothing to do.
func (s *sweep) journalChanges() error {
	same := func(name string, now []string) bool { return len(s.recorded.Flags[name]) == len(now) }
	if same("exclude", s.f.exclude) && same("exclude-file", s.f.excludeFiles) {
		return nil
	}
	config, err := s.recordedConfig()
	if err != nil {
		return fail(exitEnvironment, "%w", err)
	}
	s.changed = true
	s.writer.Put("resume", resumption{time.Now().UTC(), config, hashHex(config)}) // an error is sticky
	if err := s.writer.Sync(); err != nil {
		return fail(exitOutput, "%w", err)
	}
	return nil
}

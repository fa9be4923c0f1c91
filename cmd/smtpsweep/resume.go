package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/report"
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

// ofTheMoment are the flags that a journal does not pass on: outputs are taken
// up by recallOutputs, and how much is said is for whoever goes on with the run
// to say.
var ofTheMoment = []string{"resume", "config", "dry-run", "output", "force", "quiet", "verbose", "no-color"}

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
	if !s.flags.Changed("output") && !s.flags.Changed("format") {
		s.recallOutputs(run)
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

// recallOutputs has the files of the earlier run written, as if they had been
// named again. What is there stays as it is, but for --force.
func (s *sweep) recallOutputs(run journal.Run) {
	for _, path := range outputsOf(run) {
		path = fromHere(path)
		if _, err := os.Lstat(path); err == nil && !s.f.force {
			s.stale = append(s.stale, path)
			continue
		}
		s.f.outputs = append(s.f.outputs, path)
	}
}

// outputsOf returns the files that a run was to write beside its journal, which
// is the first .jsonl.
func outputsOf(run journal.Run) (paths []string) {
	c, _ := configOf(run) // readRun has read it
	hasJournal := false
	for _, path := range c.Flags["output"] {
		format, err := report.ByEnding(path)
		switch {
		case path == "-", err != nil:
		case format.Name == "jsonl" && !hasJournal:
			hasJournal = true
		default:
			paths = append(paths, path)
		}
	}
	return paths
}

// absolute returns paths as they are from everywhere, but "-" for stdout.
func absolute(paths []string) (out []string) {
	for _, path := range paths {
		if abs, err := filepath.Abs(path); err == nil && path != "-" {
			path = abs
		}
		out = append(out, path)
	}
	return out
}

// fromHere writes an absolute path as one types it here.
func fromHere(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
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
	if c, err = configOf(run); err != nil {
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
	s.already = recovered.Done.Len() + recovered.Names.Len()
	s.started = time.Now()
	return nil
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

package journal

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestNewestIsTheOneThatStartedLast(t *testing.T) {
	dir := t.TempDir()
	if _, err := Newest(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of an empty directory: %v", err)
	}
	if _, err := Newest(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no directory: %v", err)
	}
	start := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	var last string
	for _, d := range []time.Duration{time.Hour, 0, 2 * time.Hour, time.Millisecond} {
		name := filepath.Join(dir, NewName(start.Add(d), 4711))
		os.WriteFile(name, nil, 0o600)
		if d == 2*time.Hour {
			last = name
		}
	}
	os.WriteFile(filepath.Join(dir, "zzz.jsonl"), nil, 0o600)
	if got, err := Newest(dir); err != nil || got != last {
		t.Errorf("got %s, %v; want %s", got, err, last)
	}
}

func TestPruneKeepsTheNewestTheForeignAndTheRunning(t *testing.T) {
	dir := t.TempDir()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	running, err := Create(filepath.Join(dir, NewName(start, 1)), Run{})
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	for i := range 30 {
		os.WriteFile(filepath.Join(dir, NewName(start.Add(time.Duration(i+1)*time.Second), 1)), nil, 0o600)
	}
	foreign := filepath.Join(dir, "notes.jsonl")
	os.WriteFile(foreign, nil, 0o600)
	if err := Prune(dir, Keep); err != nil {
		t.Fatal(err)
	}
	names, _ := entries(dir)
	if len(names) != Keep+1 {
		t.Errorf("%d left, want %d and the running one", len(names), Keep)
	}
	for _, path := range []string{running.Path(), foreign, filepath.Join(dir, NewName(start.Add(30*time.Second), 1))} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if err := Prune(dir, 100); err != nil {
		t.Error(err)
	}
}

func TestLinkMakesAJournalElsewhereTheNewest(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Second) }
	write := func(path string) string {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return real(path)
	}
	link := func(path string, i int) {
		if err := Link(dir, path, at(i), 1); err != nil {
			if runtime.GOOS == "windows" {
				t.Skip("symbolic links need developer mode here: ", err)
			}
			t.Fatal(err)
		}
	}
	newest := func(want string) {
		t.Helper()
		if got, err := Newest(dir); err != nil || real(got) != want {
			t.Errorf("newest is %s, %v; want %s", got, err, want)
		}
	}
	kept := write(filepath.Join(dir, NewName(at(0), 1)))
	far := write(filepath.Join(elsewhere, "mail.jsonl"))
	link(far, 1)
	newest(far)
	link(kept, 2) // gone on with
	newest(kept)
	link(kept, 3)
	link(far, 4)
	link(far, 5)
	newest(far)
	if all, _ := entries(dir); len(all) != 3 {
		t.Errorf("%d entries, want the journal and a link to each", len(all))
	}
	if err := Prune(dir, 2); err != nil {
		t.Error(err)
	}
	newest(far)
	os.Remove(far)
	newest(kept)
	if err := Prune(dir, 1); err != nil {
		t.Error(err)
	}
	newest(kept)
	if _, err := os.Stat(kept); err != nil {
		t.Error("a journal that was gone on with was removed as old: ", err)
	}
	if all, _ := entries(dir); len(all) != 2 {
		t.Errorf("%d entries, want the journal and its link: what leads nowhere goes", len(all))
	}
}

func TestPruneRemovesLinksAndNotWhatTheyLeadTo(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "mail.jsonl")
	os.WriteFile(elsewhere, nil, 0o600)
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := Link(dir, elsewhere, start, 1); err != nil && runtime.GOOS == "windows" {
		t.Skip("symbolic links need developer mode here: ", err)
	}
	newer := filepath.Join(dir, NewName(start.Add(time.Second), 1))
	os.WriteFile(newer, nil, 0o600)
	if err := Prune(dir, 1); err != nil {
		t.Error(err)
	}
	if all, _ := entries(dir); len(all) != 1 || all[0].Name() != filepath.Base(newer) {
		t.Errorf("left are %v, want the newer one", all)
	}
	if _, err := os.Stat(elsewhere); err != nil {
		t.Error(err)
	}
}

func TestStateDirFollowsXDGAndIsPrivate(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_STATE_HOME", base)
	dir, err := StateDir()
	if err != nil || dir != filepath.Join(base, "smtpsweep") {
		t.Errorf("got %s, %v", dir, err)
	}
	if info, err := os.Stat(dir); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", base)
	t.Setenv("USERPROFILE", base)
	if dir, err = StateDir(); err != nil || dir != filepath.Join(base, ".local", "state", "smtpsweep") {
		t.Errorf("got %s, %v", dir, err)
	}
}

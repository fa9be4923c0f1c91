package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Keep is how many journals a state directory keeps.
const Keep = 20

// nameForm is the form of the names that NewName makes: they sort by time.
var nameForm = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9]+\.jsonl$`)

// NewName returns the file name of a journal that process pid starts now.
func NewName(now time.Time, pid int) string {
	return fmt.Sprintf("%s-%d.jsonl", now.UTC().Format("20060102T150405.000Z"), pid)
}

// StateDir returns the directory of journals that were given no name of their
// own, $XDG_STATE_HOME/smtpsweep or ~/.local/state/smtpsweep, and makes it
// (readable by its owner only) if it is not there.
func StateDir() (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // XDG Base Directory 0.8: a relative path is to be ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find a directory for journals: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	dir := filepath.Join(base, "smtpsweep")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory for journals: %w", err)
	}
	return dir, nil
}

// Link makes a journal the newest of a state directory, wherever it lies, by a
// symbolic link there: one that a run was told to write elsewhere, or an old one
// that a run goes on with. [Newest] follows it, and [Prune] may remove it, but
// not what it leads to.
func Link(dir, path string, now time.Time, pid int) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	if newest, err := Newest(dir); err == nil && real(newest) == real(path) {
		return nil
	}
	if names, err := entries(dir); err == nil {
		for _, e := range names { // links of its earlier runs
			if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == path {
				os.Remove(filepath.Join(dir, e.Name()))
			}
		}
	}
	return os.Symlink(path, filepath.Join(dir, NewName(now, pid)))
}

// real returns the path of a file without symbolic links, or "" if it is not there.
func real(path string) string {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	return path
}

// entries returns what has the name of a journal in a state directory, oldest
// first: journals, and links to journals that lie elsewhere.
func entries(dir string) ([]os.DirEntry, error) {
	all, err := os.ReadDir(dir) // sorted by name
	return slices.DeleteFunc(all, func(e os.DirEntry) bool {
		return !nameForm.MatchString(e.Name()) || !e.Type().IsRegular() && e.Type()&os.ModeSymlink == 0
	}), err
}

// Newest returns the journal that was started last, or gone on with, of those
// that are in dir or linked there. If there is none, the error wraps
// [os.ErrNotExist]. A link that leads nowhere does not count.
func Newest(dir string) (path string, err error) {
	all, err := entries(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("look for the last journal: %w", err)
	}
	for _, e := range slices.Backward(all) {
		path := filepath.Join(dir, e.Name())
		if e.Type().IsRegular() {
			return path, nil
		}
		if path = real(path); path != "" {
			return path, nil
		}
	}
	return "", fmt.Errorf("look for the last journal in %s: %w: no run has left one there yet", dir, os.ErrNotExist)
}

// Prune removes the oldest journals of dir, so that keep are left, those that
// lie elsewhere counted, and links that lead nowhere. It removes no journal that
// a run is writing, or that lies elsewhere.
func Prune(dir string, keep int) error {
	all, err := entries(dir)
	if err != nil {
		return fmt.Errorf("remove old journals: %w", err)
	}
	var errs []error
	kept := map[string]bool{}
	for _, e := range slices.Backward(all) {
		path := filepath.Join(dir, e.Name())
		journal := real(path)
		switch {
		case kept[journal]: // it was gone on with since
		case journal != "" && len(kept) < keep:
			kept[journal] = true
		case e.Type().IsRegular():
			errs = append(errs, removeIdle(path))
		default:
			errs = append(errs, os.Remove(path))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove old journals: %w", err)
	}
	return nil
}

// removeIdle removes a journal unless somebody has locked it.
func removeIdle(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // another run pruned it
	}
	if err != nil {
		return err
	}
	err = lock(f)
	f.Close() // before removing: Windows does not remove what is open
	if errors.Is(err, ErrLocked) {
		return nil
	}
	if err = os.Remove(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzConfig reads any bytes as a configuration: it is understood, or it is one
// sentence and exit code 2.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"rate: 100\nexclude:\n- 192.0.2.1\n- 192.0.2.2 # why\n", "# only\n", "---\nports: [25, 465]\n...\n", "{rate: 5, helo: 'x'}\n",
		"helo: |\n  a\n  b\n", "a: &x [*x]\n", "rate: \"\\x41", "? a\n: b\n", "%YAML 1.2\n---\nrate: 1\n", "- - -\n", "\ufeffrate: 1\r\n", ": :\n", "rate: >-\n",
		"rate:\n    - 5\n  - 6\n", "\trate: 5", "rate: [", "'rate': 5", "rate: !!float 5", "yes: ~\n", "rate: 5\n---\n", "a b: c d", "[rate]: 5", "{rate: 5}: 6",
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "c.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		flags := newScanCommand(nil, &scanFlags{}, nil).Flags()
		err := applyFile(flags, path)
		var coded *codedError
		if err != nil && (!errors.As(err, &coded) || coded.code != exitUsage || !strings.Contains(err.Error(), "c.yaml")) {
			t.Errorf("%v", err)
		}
	})
}

func TestAConfigurationIsNamedByTheEnvironmentToo(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("ports: 25\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SMTPSWEEP_CONFIG", path)
	if code, out, said := invoke(t, "scan", "10.0.0.1", "--dry-run"); code != 0 || out != "10.0.0.1:25\n" {
		t.Errorf("exit %d, lists %q; said %q", code, out, said)
	}
}

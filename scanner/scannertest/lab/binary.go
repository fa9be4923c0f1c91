package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const command = "github.com/smtpsweep/smtpsweep/cmd/smtpsweep"

// built is what Binary built, once a process.
var built struct {
	sync.Mutex
	path string
	err  error
}

// Binary returns the path of the smtpsweep command, built from this checkout
// once a run of the test binary. Inside a lab it must have been asked for with
// Config.Binary, so that it is built where the module cache and the network are.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(binaryEnv); path != "" {
		return path
	}
	if os.Getenv(childEnv) != "" {
		t.Fatal("lab: no binary: set Config.Binary")
	}
	built.Lock()
	defer built.Unlock()
	if built.path == "" && built.err == nil {
		built.path, built.err = buildBinary()
	}
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

func buildBinary() (string, error) {
	dir, err := os.MkdirTemp("", "smtpsweep-lab-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "smtpsweep")
	out, err := exec.Command("go", "build", "-o", path, command).CombinedOutput()
	if err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("go build %s: %v\n%s", command, err, out)
	}
	return path, nil
}

// removeBinary removes what Binary built.
func removeBinary() {
	built.Lock()
	defer built.Unlock()
	if built.path != "" {
		os.RemoveAll(filepath.Dir(built.path))
	}
}

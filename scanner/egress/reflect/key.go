package reflect

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxKeyFile bounds what is read of a key file; a key has 119 bytes.
const maxKeyFile = 4 << 10

// LoadKey reads the key of a far end from a file (PKCS #8 in PEM, RFC 5208 and
// 7468, as openssl writes it), and makes file and key at the first start. A file
// that others may read is refused.
func LoadKey(path string) (key ed25519.PrivateKey, made bool, err error) {
	text, err := readKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(path)
		return key, err == nil, err
	}
	if err != nil {
		return nil, false, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, false, fmt.Errorf("%s: there is no private key in it (PEM): remove the file for a new key, which every auditor must then be told", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, false, fmt.Errorf("%s: the private key in it is damaged: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, false, fmt.Errorf("%s: the key in it is not of the kind Ed25519", path)
	}
	return key, false, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxKeyFile:
		return nil, fmt.Errorf("%s: this is no key file", path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s: others than its owner may read or write this key: chmod 600 %s", path, path)
	}
	text := make([]byte, info.Size())
	n, err := f.ReadAt(text, 0)
	if n < len(text) {
		return nil, err
	}
	return text, nil
}

// makeKey makes a key, and its file whole or not at all: it is written beside its
// place, and linked there unless something is there by now.
func makeKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".reflect-*") // with mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), path); err == nil {
		return key, nil
	} else if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s: another process made this file just now: start again", path)
	}
	return key, os.Rename(f.Name(), path) // a file system without links
}

package service

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// ErrInUse is returned when another process runs on the data directory.
var ErrInUse = errors.New("another handover run has this data directory")

// lockPatience is for the last moments of a process that is just ending.
const lockPatience = 2 * time.Second

// Lock takes the data directory for this process, creating it when absent. The lock ends with the process, however that
// ends.
func Lock(ctx context.Context, dir string) (release func() error, err error) {
	// Others may pass through: where root runs the service, its PostgreSQL belongs to somebody else.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	wait, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	held, err := lock.TryLockContext(wait, 20*time.Millisecond)
	switch {
	case held:
		return lock.Unlock, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %s; stop that one, or choose another directory with HANDOVER_DATA_DIR", ErrInUse, dir)
	}
	return nil, fmt.Errorf("lock the data directory %s: %w", dir, err)
}

// RunFile tells other commands how to reach a local run.
type RunFile struct {
	HTTPURL     string `json:"http_url"`
	NATSURL     string `json:"nats_url"`
	DatabaseURL string `json:"database_url"`
	Token       string `json:"token"`
	Tenant      string `json:"tenant"`
}

// RunFilePath is where the run file of a data directory is.
func RunFilePath(dir string) string { return filepath.Join(dir, "run.json") }

// WriteRunFile writes it for its owner alone, whole or not at all.
func WriteRunFile(dir string, f RunFile) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(RunFilePath(dir), append(b, '\n'))
}

// ReadRunFile returns an error that is fs.ErrNotExist when nothing was ever run there.
func ReadRunFile(dir string) (RunFile, error) {
	b, err := os.ReadFile(RunFilePath(dir))
	if err != nil {
		return RunFile{}, err
	}
	var f RunFile
	if err := json.Unmarshal(b, &f); err != nil {
		return RunFile{}, fmt.Errorf("%s: %w; start handover run anew, which writes it", RunFilePath(dir), err)
	}
	return f, nil
}

// KeptSecret is the secret of a data directory, made at first use.
func KeptSecret(dir string) ([]byte, error) {
	path := filepath.Join(dir, "secret")
	b, err := os.ReadFile(path)
	if err == nil && len(b) > 16 {
		return []byte(strings.TrimSpace(string(b))), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	secret := []byte(rand.Text())
	return secret, writePrivate(path, append(secret, '\n'))
}

func writePrivate(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

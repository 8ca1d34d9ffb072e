package testkit

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	patience = 20 * time.Second
	interval = 10 * time.Millisecond
)

// Eventually waits until cond is true, for up to 20 seconds. What cond says when it is not is shown when it never is.
func Eventually(t testing.TB, what string, cond func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, why := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not so: %s: %s", patience, what, why)
		}
		time.Sleep(interval)
	}
}

var update = flag.Bool("update", false, "write golden files instead of comparing with them")

// Golden compares got with the file testdata/<path>; with the flag -update it writes the file instead.
func Golden(t testing.TB, path string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", path)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s (-want +got; go test -update accepts it):\n%s", file, cmp.Diff(string(want), string(got)))
	}
}

// Logger writes to the test's log, and no more once the test has ended.
func Logger(t testing.TB) *zap.Logger {
	out := &testWriter{t: t}
	t.Cleanup(out.end)
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "msg", ConsoleSeparator: " ",
		EncodeTime: zapcore.TimeEncoderOfLayout("15:04:05.000"), EncodeLevel: zapcore.CapitalLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
	})
	return zap.New(zapcore.NewCore(encoder, out, zapcore.InfoLevel))
}

// testWriter keeps goroutines that outlive their test from panicking in t.Log.
type testWriter struct {
	mu    sync.Mutex
	t     testing.TB
	ended bool
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.t.Logf("%s", bytes.TrimRight(p, "\n"))
	}
	return len(p), nil
}

func (w *testWriter) Sync() error { return nil }

func (w *testWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}

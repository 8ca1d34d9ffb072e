package service

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

func TestStopsInReverseOrderAlsoAfterAnError(t *testing.T) {
	t.Parallel()
	s := New(zap.NewNop())
	var got []string
	wrong := errors.New("wrong")
	for _, name := range []string{"database", "broker", "api"} {
		s.OnStop(name, func(context.Context) error {
			got = append(got, name)
			if name == "broker" {
				return wrong
			}
			return nil
		})
	}
	if err := s.Stop(t.Context()); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if diff := cmp.Diff([]string{"api", "broker", "database"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAPartThatEndsIsStartedAgainLaterAndLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(zap.NewNop())
		starts := make(chan time.Time, 100)
		s.Go("part", func(context.Context) error {
			starts <- time.Now()
			return errors.New("the database is away")
		})
		<-time.After(time.Minute)
		synctest.Wait()
		if n := len(starts); n < 10 || n > 30 {
			t.Errorf("%d starts in a minute", n)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStopWaitsForAPartButNotForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(zap.NewNop())
		finish := make(chan struct{})
		s.Go("stuck", func(context.Context) error { <-finish; return nil })
		s.Go("quick", func(ctx context.Context) error { <-ctx.Done(); <-time.After(time.Second); return nil })
		patience, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Stop(patience); err == nil || err.Error() != "stop stuck: is still at work after context deadline exceeded" {
			t.Errorf("got %v", err)
		}
		close(finish)
	})
}

func TestOneProcessHasADataDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(t.Context(), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(t.Context(), dir); err != nil {
		t.Errorf("after the release: %v", err)
	}
}

func TestRunFileIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := ReadRunFile(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	want := RunFile{HTTPURL: "http://127.0.0.1:8080", NATSURL: "nats://a:b@c", DatabaseURL: "postgres://d", Token: "t", Tenant: "demo"}
	for range 2 {
		if err := WriteRunFile(dir, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadRunFile(dir)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if info, _ := os.Stat(RunFilePath(dir)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 1 {
		t.Errorf("leftovers: %v", files)
	}
}

func TestTheSecretIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := KeptSecret(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := KeptSecret(dir)
	if err != nil || string(first) != string(second) || len(first) < 20 {
		t.Errorf("%q, then %q, %v", first, second, err)
	}
}

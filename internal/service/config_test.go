package service

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"
)

func TestDefaults(t *testing.T) {
	t.Parallel()
	got, err := Load(nil, Needs{})
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := filepath.Abs(".handover")
	want := Config{
		DataDir: dir, HTTPAddr: "127.0.0.1:8080", NATSAddr: "127.0.0.1:4222", NATSReplicas: 1,
		MailFrom: "Handover <handover@localhost>", NoticeWindow: 15 * time.Minute, LogLevel: zapcore.InfoLevel, LogFormat: "auto",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAnEmptyVariableIsAnAbsentOne(t *testing.T) {
	t.Parallel()
	got, err := Load([]string{"HANDOVER_HTTP_ADDR=", "HANDOVER_NOTICE_WINDOW= ", "PATH=/bin"}, Needs{})
	if err != nil || got.HTTPAddr != "127.0.0.1:8080" || got.NoticeWindow != 15*time.Minute {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAllProblemsAreToldAtOnceAndWithoutSecrets(t *testing.T) {
	t.Parallel()
	_, err := Load([]string{
		"HANDOVER_HTTP_ADDR=8080", "HANDOVER_NOTICE_WINDOW=15", "HANDOVER_DATABASE_URL=postgres://me:hunter2@[broken",
		"HANDOVER_NATS_URL=nats://me:hunter2@one:4222,two", "HANDOVER_LOG_LEVEL=loud", "HANDOVER_LOG_FORMAT=xml", "HANDOVER_NATS_REPLICAS=2",
		"HANDOVER_SMPT_URL=smtp://x", "HANDOVER_BASE_URL=handover.example.com", "HANDOVER_MAIL_FROM=me", "HANDOVER_TEST_DATABASE_URL=is not ours",
	}, Needs{Checks: map[string]func(string) error{"HANDOVER_MAIL_FROM": func(v string) error { return fmt.Errorf("HANDOVER_MAIL_FROM: %q is no address", v) }}})
	var problems *ConfigError
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, p := range problems.Problems {
		got = append(got, p.Variable)
	}
	want := []string{
		"HANDOVER_BASE_URL", "HANDOVER_DATABASE_URL", "HANDOVER_HTTP_ADDR", "HANDOVER_LOG_FORMAT", "HANDOVER_LOG_LEVEL", "HANDOVER_MAIL_FROM",
		"HANDOVER_NATS_REPLICAS", "HANDOVER_NATS_URL", "HANDOVER_NOTICE_WINDOW", "HANDOVER_SMPT_URL",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !strings.Contains(err.Error(), "did you mean HANDOVER_SMTP_URL?") || !strings.Contains(err.Error(), `HANDOVER_MAIL_FROM "me" is no address`) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("it tells the password: %v", err)
	}
}

func TestPartsNeedServersThatTheyShare(t *testing.T) {
	t.Parallel()
	_, err := Load([]string{"HANDOVER_NATS_URL=nats://localhost:4222"}, Needs{Servers: true})
	var problems *ConfigError
	if !errors.As(err, &problems) || len(problems.Problems) != 1 || problems.Problems[0].Variable != "HANDOVER_DATABASE_URL" {
		t.Errorf("got %v", err)
	}
}

func TestDocumentationHidesSecrets(t *testing.T) {
	t.Parallel()
	for _, v := range Variables([]string{
		"HANDOVER_DATABASE_URL=postgres://me:hunter2@host/db", "HANDOVER_NATS_URL=nats://a:hunter2@one,nats://b:hunter2@two",
		"HANDOVER_SECRET=hunter2", "HANDOVER_SMTP_URL=hunter2", "HANDOVER_TOKEN=hunter2",
	}) {
		if strings.Contains(v.Value, "hunter2") {
			t.Errorf("%s tells its secret: %s", v.Name, v.Value)
		}
		if v.About == "" || (strings.HasSuffix(v.Name, "DATABASE_URL") && v.Value != "postgres://me:xxxxx@host/db") {
			t.Errorf("%+v", v)
		}
	}
}

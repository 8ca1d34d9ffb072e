package target_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/cmd/handover/internal/target"
	"handover.io/internal/service"
)

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := service.RunFile{HTTPURL: "http://local", Token: "local-token", Tenant: "demo", DatabaseURL: "postgres://local", NATSURL: "nats://local"}
	if err := service.WriteRunFile(dir, run); err != nil {
		t.Fatal(err)
	}
	here := "HANDOVER_DATA_DIR=" + dir
	file := service.RunFilePath(dir)
	for name, test := range map[string]struct {
		flags   target.Flags
		environ []string
		want    target.Target
	}{
		"the local run": {environ: []string{here},
			want: target.Target{URL: "http://local", Token: "local-token", Tenant: "demo", DatabaseURL: "postgres://local", NATSURL: "nats://local", Local: file}},
		"by its data directory": {flags: target.Flags{DataDir: dir, Tenant: "other"},
			want: target.Target{URL: "http://local", Token: "local-token", Tenant: "other", DatabaseURL: "postgres://local", NATSURL: "nats://local", Local: file}},
		"another URL never gets the local token": {flags: target.Flags{URL: "http://far"}, environ: []string{here},
			want: target.Target{URL: "http://far", Tenant: "demo", DatabaseURL: "postgres://local", NATSURL: "nats://local", Local: file}},
		"another token for the local run": {environ: []string{here, "HANDOVER_TOKEN=mine"},
			want: target.Target{URL: "http://local", Token: "mine", Tenant: "demo", DatabaseURL: "postgres://local", NATSURL: "nats://local", Local: file}},
		"another database never goes with the local broker": {environ: []string{here, "HANDOVER_DATABASE_URL=postgres://far", "HANDOVER_URL=http://far", "HANDOVER_TOKEN=far"},
			want: target.Target{URL: "http://far", Token: "far", DatabaseURL: "postgres://far"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := target.Find(test.flags, test.environ)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := target.Find(target.Flags{DataDir: dir}, nil); err == nil || !strings.Contains(err.Error(), "run.json") {
		t.Errorf("got %v", err)
	}
	got, err := target.Find(target.Flags{}, []string{"HANDOVER_DATA_DIR=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{got.NeedAPI(), got.NeedDatabase(), got.NeedBroker(), got.NeedTenant()} {
		if err == nil {
			t.Error("something isn't missed")
		}
	}
}

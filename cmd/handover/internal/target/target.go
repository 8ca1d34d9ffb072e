// Package target finds out which Handover a command is about: the one named by flags or by the environment, else the
// local run, by its run.json.
//
// Invariant: what belongs together comes from one place. A URL that somebody named is never sent the token of the local
// run.
//
// It fails with a message that says where it looked and what to give instead.
package target

import (
	"errors"
	"fmt"
	"io/fs"

	"handover.io/internal/service"
)

// Flags are what a command line says; empty fields are left to the environment and the local run.
type Flags struct {
	DataDir, URL, Token, Tenant, DatabaseURL, NATSURL string
}

// Target is where a command goes.
type Target struct {
	URL, Token           string
	Tenant               string
	DatabaseURL, NATSURL string
	// Local is the run file that something was taken from, or empty.
	Local string
}

// Find puts flags over the environment over the local run.
func Find(f Flags, environ []string) (Target, error) {
	named := map[string]string{}
	for _, v := range service.Plain(environ) {
		named[v.Name] = v.Value
	}
	t := Target{
		URL: first(f.URL, named["HANDOVER_URL"]), Token: first(f.Token, named["HANDOVER_TOKEN"]), Tenant: f.Tenant,
		DatabaseURL: first(f.DatabaseURL, named["HANDOVER_DATABASE_URL"]), NATSURL: first(f.NATSURL, named["HANDOVER_NATS_URL"]),
	}
	dir := first(f.DataDir, named["HANDOVER_DATA_DIR"])
	run, err := service.ReadRunFile(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if f.DataDir != "" {
			return Target{}, fmt.Errorf("there is no %s: handover run with that data directory writes it", service.RunFilePath(dir))
		}
		return t, nil
	}
	if err != nil {
		return Target{}, err
	}
	if t.URL == "" && run.HTTPURL != "" {
		t.URL, t.Token, t.Local = run.HTTPURL, first(t.Token, run.Token), service.RunFilePath(dir)
		t.Tenant = first(t.Tenant, run.Tenant)
	}
	if t.DatabaseURL == "" && t.NATSURL == "" {
		t.DatabaseURL, t.NATSURL, t.Local = run.DatabaseURL, run.NATSURL, service.RunFilePath(dir)
		t.Tenant = first(t.Tenant, run.Tenant)
	}
	return t, nil
}

const orLocal = "start handover run here, name its data directory with --data-dir, or "

// NeedAPI says what is missing to talk to the API.
func (t Target) NeedAPI() error {
	if t.URL != "" && t.Token == "" {
		return fmt.Errorf("which token for %s? give --token (HANDOVER_TOKEN); that of the local run is only for the local run", t.URL)
	}
	if t.URL == "" {
		return errors.New("which Handover? " + orLocal + "give --url and --token (HANDOVER_URL and HANDOVER_TOKEN)")
	}
	return nil
}

// NeedDatabase says what is missing to talk to the database.
func (t Target) NeedDatabase() error {
	if t.DatabaseURL == "" {
		return errors.New("which database? " + orLocal + "give HANDOVER_DATABASE_URL")
	}
	return nil
}

// NeedBroker says what is missing to talk to the broker.
func (t Target) NeedBroker() error {
	if t.NATSURL == "" {
		return errors.New("which broker? " + orLocal + "give HANDOVER_NATS_URL")
	}
	return nil
}

// NeedTenant says what is missing to name a tenant.
func (t Target) NeedTenant() error {
	if t.Tenant == "" {
		return errors.New("which tenant? give --tenant")
	}
	return nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

package notify

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"handover.io/pkg/event"
)

// A URL is read to a server that another URL of the same parts names too, or refused by the name of the variable. Its
// password stands in no error, and goes over no line unprotected.
func FuzzSMTPURL(f *testing.F) {
	for _, seed := range []string{
		"smtp://user:s3cret@mail.example:587", "smtps://u:p%40ss@[::1]:465/", "smtp://localhost:2525?tls=none", "smtp://u:p@127.0.0.1?tls=none", "smtp://u:p@mail.example?tls=none",
		"smtp://u:p@mail.example:99999", "http://u:hunter2@x", "smtp://u:hunter2@x/%zz", "smtp://hunter2%zz:x@y", "smtp://:password@host", "smtp://h?tls=none&tls=none", "://", "smtp://u:p@h\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := ParseSMTPURL(raw)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "HANDOVER_SMTP_URL: ") {
				t.Fatalf("%q: %v", raw, err)
			}
			// Only a password long enough not to stand in our own words by chance.
			if u, parseErr := url.Parse(raw); parseErr == nil {
				if password, _ := u.User.Password(); len(password) > 6 && !strings.Contains(u.Redacted(), password) && strings.Contains(err.Error(), password) {
					t.Fatalf("%q: the error tells the password: %v", raw, err)
				}
			}
			return
		}
		if c.Host == "" || c.Port < 1 || c.Port > 65535 || c.User != "" && c.Password == "" || c.Security == NoTLS && c.Password != "" && !loopback(c.Host) {
			t.Fatalf("%q is %+v", raw, c)
		}
		scheme, query := "smtp", ""
		switch c.Security {
		case ImplicitTLS:
			scheme = "smtps"
		case NoTLS:
			query = "tls=none"
		}
		same := url.URL{Scheme: scheme, Host: net.JoinHostPort(c.Host, strconv.Itoa(c.Port)), RawQuery: query}
		if c.User != "" || c.Password != "" {
			same.User = url.UserPassword(c.User, c.Password)
		}
		if again, err := ParseSMTPURL(same.String()); err != nil || again != c {
			t.Fatalf("%q is %+v; %q is %+v, %v", raw, c, same.String(), again, err)
		}
	})
}

// What the intake takes are texts that its tables hold; all else is refused for a field.
func FuzzMove(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"1","source":"/","type":"io.handover.task.reassigned.v1","time":"2026-01-01T00:00:00Z","data":{"tenant_id":"demo","account_id":"a","from_id":null,"to_id":"b","reason":"assigned","initiated_by":"u","correction":false,"tasks":[{"id":"t","revision":1,"title":"","source":"manual"}]}}`,
		`{"specversion":"1.0","id":"1","source":"/","type":"io.handover.task.reassigned.v1","time":"2026-01-01T00:00:00Z","data":{"tenant_id":"demo","account_id":"a","from_id":"\u0001","to_id":"b","reason":"api","initiated_by":"u\u0000","correction":true,"role_change":{"source":"/","id":"1","role":"\u0000","occurred_at":"2026-01-01T00:00:00Z"},"policy":"keep_tasks","tasks":[{"id":"t","revision":1,"title":"","source":"manual"}]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decode(event.Message{Body: body})
		var invalid *event.Invalid
		if err != nil {
			if !errors.As(err, &invalid) || invalid.Reason == "" || invalid.Remedy == "" {
				t.Fatalf("%q: %#v", body, err)
			}
			return
		}
		role := ""
		if r.RoleChange != nil {
			role = r.RoleChange.Role
		}
		for _, text := range []string{r.FromID, r.ToID, r.InitiatedBy, r.Reason, role, r.AccountID} {
			if strings.ContainsAny(text, "\x00\n") || text != "" && event.CheckID(text) != "" {
				t.Fatalf("%q was taken with %q", body, text)
			}
		}
	})
}

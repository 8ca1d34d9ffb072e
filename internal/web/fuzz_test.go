package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// However events come over HTTP, each is refused with a place in the request and a remedy, or is the event that is
// published: written anew it reads the same. A batch is as many events as it has elements.
func FuzzEventsOverHTTP(f *testing.F) {
	const good = `{"specversion":"1.0","id":"1","source":"//crm","type":"io.handover.account.role.changed.v1","time":"2026-01-01T00:00:00Z","data":{"tenant_id":"acme","account_id":"a","role":"r","new_owner_id":"b","reason":"api","initiated_by":"u"}}`
	f.Add(mediaEvent, "", "", []byte(good))
	f.Add(mediaEvent+"; charset=utf-8", "1.0", "x", []byte(good))
	f.Add(mediaEvents, "", "", []byte("["+good+","+good+",7]"))
	f.Add("application/json", "1.0", "a%20b", []byte(`{"tenant_id":"acme","account_id":"a","role":"r","new_owner_id":null,"reason":"api","initiated_by":"u"}`))
	f.Add("", "2.0", "%", []byte("[]"))
	f.Add("text/plain", "", "", []byte(nil))
	who := roster.Identity{TenantID: "acme", UserID: "u", Rights: []string{roster.RightAssign}}
	f.Fuzz(func(t *testing.T, contentType, version, id string, body []byte) {
		h := http.Header{"Content-Type": {contentType}, "Ce-Id": {id}, "Ce-Source": {"//crm"}, "Ce-Time": {"2026-01-01T00:00:00Z"}, "Ce-Type": {event.TypeAccountRoleChanged}, "Authorization": {"Bearer secret"}}
		if version != "" {
			h.Set("Ce-Specversion", version)
		}
		received, mode, err := eventsOf(h, body)
		var problem *Problem
		if err != nil {
			if !errors.As(err, &problem) || problem.Status < 400 || problem.Status > 499 || problem.Detail == "" {
				t.Fatalf("%#v", err)
			}
			return
		}
		if mode == eventBatch {
			var elements []any
			if err := json.Unmarshal(body, &elements); err != nil || len(elements) != len(received) {
				t.Fatalf("%d events of %d elements, %v", len(received), len(elements), err)
			}
		}
		for i, m := range received {
			if len(m.Header["Authorization"])+len(m.Header["authorization"]) > 0 {
				t.Fatal("the token goes on")
			}
			m.Subject = event.SubjectRoleChanged(who.TenantID)
			c, err := acceptable(who, m)
			var invalid *event.Invalid
			if err != nil {
				if !errors.As(err, &invalid) || invalid.Remedy == "" {
					t.Fatalf("%#v", err)
				}
				if place := mode.location(i, invalid.Field); !strings.HasPrefix(place, "body") && !strings.HasPrefix(place, "header.") {
					t.Fatalf("%q stands in %q", invalid.Field, place)
				}
				continue
			}
			if c.TenantID != who.TenantID || c.InitiatedBy != who.UserID || strings.EqualFold(c.Source, event.SourceHandover) || c.Time.After(time.Now().Add(time.Hour)) {
				t.Fatalf("accepted %+v", c)
			}
			written, err := c.Message(m.Subject)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := event.DecodeAccountRoleChanged(written); err != nil || again != c {
				t.Fatalf("accepted %+v\npublished %+v, %v", c, again, err)
			}
		}
	})
}

// Lines are those that splitting the whole gives, without the blank ones, however the body arrives.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\n\n b \r\nc"), uint(3))
	f.Add([]byte("\n\n\n"), uint(1))
	f.Add([]byte("\xff\x00\n{}"), uint(70_000))
	f.Fuzz(func(t *testing.T, text []byte, stretch uint) {
		// Lines longer than the buffer come about by stretching the first one.
		text = append(bytes.Repeat([]byte("x"), int(stretch%200_000)), text...)
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(text), "halves": iotest.HalfReader(bytes.NewReader(text)), "error with data": iotest.DataErrReader(bytes.NewReader(text))} {
			in := newLines(r)
			for i, line := range bytes.Split(text, []byte("\n")) {
				if line = bytes.TrimSpace(line); len(line) == 0 {
					continue
				}
				got, err := in.next()
				if err != nil || !bytes.Equal(got, line) || in.number != i+1 {
					t.Fatalf("%s: line %d is %q, want line %d %q (%v)", name, in.number, got, i+1, line, err)
				}
			}
			if got, err := in.next(); err != io.EOF {
				t.Fatalf("%s: after the last line %q, %v", name, got, err)
			}
		}
	})
}

// Ids in paths and values in queries reach a handler as they were written before they were encoded, or are refused by
// their place.
func FuzzAddress(f *testing.F) {
	for _, seed := range [][2]string{{"five/a b ü", "x=1"}, {"..", "dry_run="}, {"%2e%2e", "a=1&a=2"}, {"a\x00", "%zz"}, {"", "cursor=%ff"}, {".", "q=%00"}, {"a;b", "a;b=c"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, id, query string) {
		target := "/v1/users/" + url.PathEscape(id)
		if id == "." || id == ".." {
			target = "/v1/users/" + strings.ReplaceAll(id, ".", "%2E")
		}
		parsed, err := url.Parse("http://x" + target)
		if err != nil {
			t.Fatalf("%q: %v", target, err)
		}
		parsed.RawQuery = query
		reached := false
		mux := http.NewServeMux()
		mux.HandleFunc("GET /v1/users/{id}", func(w http.ResponseWriter, r *http.Request) {
			address([]string{"id"})(w, r, func(_ http.ResponseWriter, r *http.Request) {
				reached = true
				if got := r.PathValue("id"); got != id || event.CheckID(got) != "" {
					t.Errorf("the id %q arrives as %q", id, got)
				}
				for name, values := range r.URL.Query() {
					if len(values) != 1 || values[0] == "" || strings.Contains(values[0], "\x00") {
						t.Errorf("%s of the query arrives as %q", name, values)
					}
				}
			})
		})
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, &http.Request{Method: http.MethodGet, URL: parsed, Host: "x", Header: http.Header{}})
		var p Problem
		switch {
		case reached, answer.Code == http.StatusNotFound, answer.Code == http.StatusMovedPermanently, answer.Code == http.StatusTemporaryRedirect: // the mux cleans paths
		case answer.Code != http.StatusUnprocessableEntity || json.Unmarshal(answer.Body.Bytes(), &p) != nil || len(p.Errors) == 0:
			t.Errorf("%q?%q: %d %s", id, query, answer.Code, answer.Body)
		}
		for _, e := range p.Errors {
			if !strings.HasPrefix(e.Location, "path.id") && !strings.HasPrefix(e.Location, "query") || e.Message == "" {
				t.Errorf("refused %+v", e)
			}
		}
	})
}

// A key is 1 to 255 visible ASCII characters, and different requests have different digests.
func FuzzIdempotencyKey(f *testing.F) {
	f.Add("01a2149e-66ef", "/v1/a", "x=1", []byte("{}"))
	f.Add("a b", "/v1/a%2Fb", "", []byte(nil))
	f.Add("é\n", "/", "", []byte("x"))
	f.Fuzz(func(t *testing.T, key, path, query string, body []byte) {
		good := len(key) >= 1 && len(key) <= 255
		for i := range len(key) {
			good = good && key[i] > ' ' && key[i] < 0x7f
		}
		if goodKey.MatchString(key) != good {
			t.Fatalf("%q is good: %v", key, !good)
		}
		request := func(path, query string, body []byte) [16]byte {
			u := &url.URL{Path: path, RawQuery: query}
			r := &http.Request{Method: http.MethodPost, URL: u}
			return digestOf(r.WithContext(context.WithValue(t.Context(), bodyKey{}, body)))
		}
		is := request(path, query, body)
		if is != request(path, query, bytes.Clone(body)) {
			t.Fatal("one request has two digests")
		}
		if is == request(path, query+"x", body) || is == request(path+"x", query, body) || is == request(path, query, append(bytes.Clone(body), 'x')) || query != "" && is == request(path+query, "", body) {
			t.Fatal("two requests have one digest")
		}
	})
}

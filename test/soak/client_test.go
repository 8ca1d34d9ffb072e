package soak_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

type body = map[string]any

var client = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}

// answer is what became of a request. A status of 0 means that nobody knows: it was under way when the faults ended.
type answer struct {
	status int
	body   map[string]any
	raw    string
}

// taken tells whether it was done.
func (a answer) taken() bool { return a.status >= 200 && a.status < 300 }

func (a answer) operation() string {
	id, _ := a.body["operation_id"].(string)
	return id
}

// request is one that may be repeated until it is answered for good.
type request struct {
	method, path, media, key string
	body                     []byte
}

// ask sends a request to the APIs, now to one, now to another, until it is answered for good: done (2xx) or refused (4xx).
// Anything else is a fault's doing, and it is tried again.
func (t *tenant) ask(r *rand.Rand, q request) answer {
	const patience = 3 * time.Minute
	began := time.Now()
	for {
		t.requests.Add(1)
		a, err := t.once(t.apis[r.IntN(len(t.apis))], q)
		switch {
		case err == nil && a.status == http.StatusInternalServerError:
			t.w.wrong("%s %s answered 500: %s", q.method, q.path, a.raw)
		case err == nil && a.status == http.StatusConflict && strings.Contains(a.raw, "still under way"):
			// The key is that of a request whose process was killed. It is free after a minute; nobody waits for that here,
			// and the repeat that comes without a key finds what was done.
			q.key = ""
			continue
		case err == nil && a.status < 500 && a.status != http.StatusTooManyRequests:
			if a.status != http.StatusConflict && a.status != http.StatusUnprocessableEntity && a.status != http.StatusNotFound && !a.taken() {
				t.w.wrong("%s %s answered %d: %s", q.method, q.path, a.status, a.raw)
			}
			return a
		}
		if time.Since(began) > patience {
			t.w.wrong("%s %s is not answered for good within %v: %d %s %v", q.method, q.path, patience, a.status, a.raw, err)
			return answer{}
		}
		time.Sleep(50 * time.Millisecond) // as a client would, lest it makes things worse
	}
}

func (t *tenant) once(api *part, q request) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), q.method, "http://"+api.addr+q.path, bytes.NewReader(q.body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	req.Header.Set("Content-Type", q.media)
	if q.key != "" {
		req.Header.Set("Idempotency-Key", q.key)
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: res.StatusCode, raw: string(b)}
	if media := res.Header.Get("Content-Type"); res.StatusCode < 500 && (strings.HasPrefix(media, "application/json") || strings.HasPrefix(media, "application/problem+json")) {
		if err := json.Unmarshal(b, &a.body); err != nil {
			return answer{}, err
		}
	}
	return a, nil
}

func (t *tenant) json(r *rand.Rand, method, path string, in any) answer {
	return t.ask(r, request{method: method, path: path, media: "application/json", body: marshal(in)})
}

func marshal(in any) []byte {
	if in == nil {
		return nil
	}
	b, err := json.Marshal(in)
	if err != nil {
		panic(err) // of our own making
	}
	return b
}

// keyed is json with an Idempotency-Key, which is given or not, as clients do.
func (t *tenant) keyed(r *rand.Rand, method, path string, in any) answer {
	q := request{method: method, path: path, media: "application/json", body: marshal(in)}
	if r.IntN(2) == 0 {
		q.key = fmt.Sprintf("%s-%d", t.id, r.Uint64())
	}
	return t.ask(r, q)
}

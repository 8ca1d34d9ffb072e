package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"handover.io/internal/roster"
)

const (
	headerKey      = "Idempotency-Key"
	headerReplayed = "Idempotent-Replayed"
	// forgetEvery is after how many requests with a key those of the day before are deleted.
	forgetEvery = 256
)

var goodKey = regexp.MustCompile(`^[\x21-\x7e]{1,255}$`)

// once makes a request with an Idempotency-Key happen once: a repeat gets the answer of the first.
//
// Only what was done is kept: a refusal changed nothing, so the same request may be tried again under its key, and what
// a failure left behind is found by the command itself (the same owner is unchanged, the same event is the same event).
func (s *server) once(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	key := r.Header.Get(headerKey)
	// A dry run does nothing that could happen twice; the key is for the request that follows it.
	if dry, _ := strconv.ParseBool(r.URL.Query().Get("dry_run")); key == "" || dry {
		next(w, r)
		return
	}
	if !goodKey.MatchString(key) {
		writeProblem(w, r, unprocessable(FieldProblem{"header." + headerKey, "must be 1 to 255 visible ASCII characters, such as a UUID"}))
		return
	}
	k := keyed{s, callerOf(r.Context()), key, digestOf(r)}
	began, stored, err := k.begin(r.Context())
	switch {
	case err != nil:
		writeProblem(w, r, explain(r.Context(), err, within("header")))
		return
	case stored != nil:
		stored.replay(w)
		return
	}
	held := &recorder{ResponseWriter: w}
	func() {
		// Whatever becomes of the handler, the key is settled: a panic must not leave it taken. And it is settled before
		// the answer goes out, so that a repeat that follows at once finds it.
		defer func() { k.settle(context.WithoutCancel(r.Context()), began, held) }()
		next(held, r)
	}()
	held.send()
}

// digestOf is equal for requests that ask for the same.
func digestOf(r *http.Request) [16]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery), bodyOf(r.Context())} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write(part)
	}
	return [16]byte(h.Sum(nil)[:16])
}

type keyed struct {
	*server
	who     roster.Identity
	key     string
	request [16]byte
}

const (
	// A key whose request never ended belongs to a process that died; after a minute its repeat may have it.
	takeKey = `
INSERT INTO idempotency_keys AS k (tenant_id, user_id, key, request) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, user_id, key) DO UPDATE SET created_at = clock_timestamp()
WHERE k.status IS NULL AND k.request = excluded.request AND k.created_at < clock_timestamp() - interval '1 minute'
RETURNING created_at`
	readKey = `
SELECT request = $4, status, header, body FROM idempotency_keys WHERE tenant_id = $1 AND user_id = $2 AND key = $3`
	keepAnswer = `
UPDATE idempotency_keys SET status = $5, header = $6, body = $7
WHERE tenant_id = $1 AND user_id = $2 AND key = $3 AND created_at = $4 AND status IS NULL`
	// A thousand at a time, and far more often than a thousand come.
	forgetKeys = `
DELETE FROM idempotency_keys WHERE (tenant_id, user_id, key) IN (
  SELECT tenant_id, user_id, key FROM idempotency_keys WHERE created_at < clock_timestamp() - interval '1 day' LIMIT 1000 FOR UPDATE SKIP LOCKED)`
	freeKey = `
DELETE FROM idempotency_keys WHERE tenant_id = $1 AND user_id = $2 AND key = $3 AND created_at = $4 AND status IS NULL`
)

// begin takes the key, or returns the answer it has. The time fences the key against whoever takes it over.
func (k keyed) begin(ctx context.Context) (time.Time, *answer, error) {
	var began time.Time
	err := k.Pool.QueryRow(ctx, takeKey, k.who.TenantID, k.who.UserID, k.key, k.request).Scan(&began)
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return began, nil, err
	}
	var same bool
	var status *int
	var a answer
	err = k.Pool.QueryRow(ctx, readKey, k.who.TenantID, k.who.UserID, k.key, k.request).Scan(&same, &status, &a.header, &a.body)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // freed in between
		return began, nil, inFlight()
	case err != nil:
		return began, nil, err
	case !same:
		return began, nil, newProblem(http.StatusConflict,
			"This Idempotency-Key was used for another request. Give every request a key of its own; only a repeat has the same.")
	case status == nil:
		return began, nil, inFlight()
	}
	a.status = *status
	return began, &a, nil
}

func inFlight() *Problem {
	return newProblem(http.StatusConflict, "The first request of this Idempotency-Key is still under way. Try again.").with("Retry-After", "2")
}

// settle keeps the answer of what was done, and frees the key of what wasn't.
func (k keyed) settle(ctx context.Context, began time.Time, r *recorder) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var err error
	if r.status >= 200 && r.status < 300 {
		var header []byte
		if header, err = json.Marshal(r.kept()); err == nil {
			_, err = k.Pool.Exec(ctx, keepAnswer, k.who.TenantID, k.who.UserID, k.key, began, r.status, header, r.body.Bytes())
		}
	} else {
		_, err = k.Pool.Exec(ctx, freeKey, k.who.TenantID, k.who.UserID, k.key, began)
	}
	if err == nil && k.settled.Add(1)%forgetEvery == 0 {
		_, err = k.Pool.Exec(ctx, forgetKeys)
	}
	if err != nil {
		k.log.Warn("idempotency key not settled; its repeat has to wait a minute",
			zap.String("part", "api"), zap.String("tenant_id", k.who.TenantID), zap.String("key", k.key), zap.Error(err))
	}
}

// answer is a stored response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) replay(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set(headerReplayed, "true")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// recorder holds an answer back.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) send() {
	r.ResponseWriter.WriteHeader(cmp.Or(r.status, http.StatusOK))
	_, _ = r.ResponseWriter.Write(r.body.Bytes())
}

// kept are the headers that belong to the answer rather than to the request.
func (r *recorder) kept() http.Header {
	out := http.Header{}
	for _, name := range []string{"Content-Type", "Location"} {
		if v := r.Header().Get(name); v != "" {
			out.Set(name, v)
		}
	}
	return out
}

package roster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

// The rights of a token. Admin has them all, and each has read.
const (
	RightAdmin  = "admin"
	RightPolicy = "policy"
	RightAssign = "assign"
	RightSync   = "sync"
	RightRead   = "read"
)

var allRights = []string{RightAdmin, RightPolicy, RightAssign, RightSync, RightRead}

// ErrUnauthorized is returned for a token that was never given out, was revoked, or acts for somebody who has left.
var ErrUnauthorized = errors.New("unauthorized")

// Token is what is known of a token; its secret is not.
type Token struct {
	ID         string     `json:"id"`
	UserID     string     `json:"user_id"`
	Name       string     `json:"name"`
	Rights     []string   `json:"rights"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"` // to the minute
	RevokedAt  *time.Time `json:"revoked_at"`
}

// Identity is who sends a request. Rights names every right that they have, implied ones too.
type Identity struct {
	TenantID, UserID string
	Rights           []string
}

const insertToken = `
INSERT INTO tokens (token_id, secret_hash, tenant_id, user_id, name, rights)
SELECT $2, $3, tenant_id, $4, $5, $6 FROM tenants WHERE tenant_id = $1
RETURNING token_id, user_id, name, rights, created_at, last_used_at, revoked_at`

// CreateToken gives out a token that acts for user. The plaintext is returned this once and kept nowhere. Rights that
// don't exist, or none, are an [*Invalid]; without the tenant it fails with [ErrNotFound].
func (r *Roster) CreateToken(ctx context.Context, tenant, user, name string, rights []string) (token Token, plaintext string, err error) {
	rights = slices.Compact(slices.Sorted(slices.Values(rights)))
	unknown := slices.IndexFunc(rights, func(right string) bool { return !slices.Contains(allRights, right) })
	switch {
	case len(rights) == 0 || unknown >= 0:
		return Token{}, "", invalid("rights", "must be one or more of %s", strings.Join(allRights, ", "))
	case event.CheckID(user) != "":
		return Token{}, "", invalid("user_id", "%s", event.CheckID(user))
	case utf8.RuneCountInString(name) > maxName || strings.ContainsRune(name, 0) || !utf8.ValidString(name):
		return Token{}, "", invalid("name", "must be at most %d characters, none of them NUL", maxName)
	}
	id := strings.ReplaceAll(newID(), "-", "")
	plaintext = tokenPrefix + id + "_" + newSecret()
	rows, err := r.pool.Query(ctx, insertToken, tenant, id, hash(plaintext), user, name, rights)
	if token, err = one[Token](rows, err, "tenant", tenant); err != nil {
		return Token{}, "", err
	}
	return token, plaintext, nil
}

// tokenPrefix lets a scanner of leaked secrets know one of ours.
const tokenPrefix = "handover_"

// newSecret has 32 random bytes.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// hash needs no salt and no stretching: the secret is too random to be guessed.
func hash(plaintext string) []byte {
	sum := sha256.Sum256([]byte(plaintext))
	return sum[:]
}

const listTokens = `
SELECT token_id, user_id, name, rights, created_at, last_used_at, revoked_at FROM tokens
WHERE tenant_id = $1 AND token_id > $2 ORDER BY token_id LIMIT $3`

// ListTokens lists the tenant's tokens, the oldest first, the revoked ones too.
func (r *Roster) ListTokens(ctx context.Context, tenant string, q PageQuery) (Page[Token], error) {
	limit, after, err := q.open("tokens", 1)
	if err != nil {
		return Page[Token]{}, err
	}
	rows, err := r.pool.Query(ctx, listTokens, tenant, after[0], limit+1)
	return page(rows, err, limit, "tokens", func(t Token) []string { return []string{t.ID} })
}

// RevokeToken makes the token worthless, at once and for good. It fails with [ErrNotFound] without it.
func (r *Roster) RevokeToken(ctx context.Context, tenant, tokenID string) error {
	revoked, err := r.pool.Exec(ctx, `UPDATE tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE tenant_id = $1 AND token_id = $2`, tenant, tokenID)
	if err == nil && revoked.RowsAffected() == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("revoke token %s: %w", tokenID, err)
	}
	return nil
}

const (
	// A user who isn't known hasn't left: services have tokens, too.
	findToken = `
SELECT token_id, tenant_id, user_id, rights, coalesce(last_used_at < clock_timestamp() - interval '1 minute', true)
FROM tokens k WHERE secret_hash = $1 AND revoked_at IS NULL
  AND NOT EXISTS (SELECT FROM users u WHERE u.tenant_id = k.tenant_id AND u.user_id = k.user_id AND u.status <> 'active')`
	touchToken = `
UPDATE tokens SET last_used_at = clock_timestamp()
WHERE token_id = $1 AND coalesce(last_used_at < clock_timestamp() - interval '1 minute', true)`
)

// Authenticate tells whose token it is. It fails with [ErrUnauthorized] when it is nobody's, or that of somebody who has
// left; should they come back, so does their token.
func (r *Roster) Authenticate(ctx context.Context, plaintext string) (Identity, error) {
	if !strings.HasPrefix(plaintext, tokenPrefix) {
		return Identity{}, ErrUnauthorized
	}
	var id string
	var who Identity
	var stale bool
	err := r.pool.QueryRow(ctx, findToken, hash(plaintext)).Scan(&id, &who.TenantID, &who.UserID, &who.Rights, &stale)
	if err == pgx.ErrNoRows {
		return Identity{}, ErrUnauthorized
	}
	if err == nil && stale {
		_, err = r.pool.Exec(ctx, touchToken, id)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("authenticate: %w", err)
	}
	switch {
	case slices.Contains(who.Rights, RightAdmin):
		who.Rights = slices.Clone(allRights)
	case !slices.Contains(who.Rights, RightRead):
		who.Rights = append(who.Rights, RightRead)
	}
	return who, nil
}

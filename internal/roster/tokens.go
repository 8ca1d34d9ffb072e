package roster

import (
	"context"
	"errors"
	"time"
)

// The rights of a token. Admin has them all, and each has read.
const (
	RightAdmin  = "admin"
	RightPolicy = "policy"
	RightAssign = "assign"
	RightSync   = "sync"
	RightRead   = "read"
)

// ErrUnauthorized is returned for a token that was never given out, or was revoked.
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

// CreateToken gives out a token that acts for user. The plaintext is returned this once and kept nowhere. Rights that
// don't exist, or none, are an [*Invalid]; without the tenant it fails with [ErrNotFound].
func (r *Roster) CreateToken(ctx context.Context, tenant, user, name string, rights []string) (token Token, plaintext string, err error) {
	panic("not yet")
}

// ListTokens lists the tenant's tokens, the oldest first, the revoked ones too.
func (r *Roster) ListTokens(ctx context.Context, tenant string, q PageQuery) (Page[Token], error) {
	panic("not yet")
}

// RevokeToken makes the token worthless, at once and for good. It fails with [ErrNotFound] without it.
func (r *Roster) RevokeToken(ctx context.Context, tenant, tokenID string) error { panic("not yet") }

// Authenticate tells whose token it is. It fails with [ErrUnauthorized] when it is nobody's.
func (r *Roster) Authenticate(ctx context.Context, plaintext string) (Identity, error) {
	panic("not yet")
}

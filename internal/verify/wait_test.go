package verify_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"handover.io/internal/verify"
)

// Whoever writes while a verification begins may have the move already, and the announcement not yet: also when nobody
// began later than they did.
func TestVerifyWaitsForWhoWritesNow(t *testing.T) {
	t.Parallel()
	w := newChecked(t)
	tx, err := w.pool.Begin(t.Context())
	w.must(err)
	_, err = tx.Exec(t.Context(), `UPDATE tenants SET notice_mode = notice_mode`)
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	options := verify.Options{Only: []verify.Kind{verify.Unannounced}, Duty: 1}
	if _, err := verify.Verify(ctx, w.pool, w.broker(), options); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it didn't wait: %v", err)
	}
	w.must(tx.Commit(t.Context()))
	if _, err := verify.Verify(t.Context(), w.pool, w.broker(), options); err != nil {
		t.Errorf("it waits for nobody: %v", err)
	}
}

package roster

import (
	"context"
	"fmt"
)

const reinstate = `
UPDATE users SET status = 'active', left_at = NULL, successor_id = NULL, departure_id = NULL, departure_tasks = false, updated_at = now()
WHERE tenant_id = $1 AND user_id = $2 AND status <> 'active'`

// Reinstate takes somebody back who is disabled or deleted, whatever upstream says: what it said last stays said, so that a
// sync which repeats that doesn't change it again. From now on they can receive again, and what comes late no longer goes to
// their successor. It gives nothing back that was handed on. Who is active stays as they are. It fails with [ErrNotFound].
func (r *Roster) Reinstate(ctx context.Context, tenant, id string) (UserDetails, error) {
	_, err := r.pool.Exec(ctx, reinstate, tenant, id)
	if err != nil {
		return UserDetails{}, fmt.Errorf("reinstate user %s: %w", id, err)
	}
	return r.User(ctx, tenant, id)
}

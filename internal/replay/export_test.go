package replay

// GatherAtMost makes chunks small.
func (r *Replay) GatherAtMost(changes int) { r.chunk = changes }

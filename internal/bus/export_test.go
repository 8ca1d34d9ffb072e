package bus

import "context"

// Consumers counts those of a stream, whoever made them.
func Consumers(ctx context.Context, b *Bus, stream string) (int, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.Consumers, nil
}

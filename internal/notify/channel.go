package notify

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	pauseFirst = 5 * time.Second
	pauseMost  = 5 * time.Minute
	retryFirst = 30 * time.Second
	retryMost  = time.Hour
	// maxTries is after how many refusals for now a mail is given up: with the delays between them, about a day.
	maxTries = 30
)

// channel remembers that the way out is out of order. Each process finds out for itself; the pauses are measured on its
// own clock and decide nothing but when it looks again.
type channel struct {
	mu       sync.Mutex
	failures int
	until    time.Time
}

func (c *channel) paused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.until)
}

// failed pauses the channel and returns for how long. Mails that fail side by side count once.
func (c *channel) failed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := time.Until(c.until); left > 0 {
		return left
	}
	pause := jitter(doubled(pauseFirst, pauseMost, c.failures))
	c.failures++
	c.until = time.Now().Add(pause)
	return pause
}

// works forgets failures of the past: a mail came through, or the server had something to say about one.
func (c *channel) works() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.until = 0, time.Time{}
}

// retryDelay is how long a mail waits that was refused for now, after so many refusals before this one.
func retryDelay(tries int) time.Duration { return jitter(doubled(retryFirst, retryMost, tries)) }

func doubled(first, most time.Duration, times int) time.Duration {
	for range times {
		if first *= 2; first >= most {
			return most
		}
	}
	return first
}

// jitter spreads d by a fifth either way.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

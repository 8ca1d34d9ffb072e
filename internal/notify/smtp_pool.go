package notify

import (
	"context"
	"errors"
	"net/textproto"
	"slices"
	"sync"
	"time"
)

const (
	// maxIdle is how long a connection is kept for the next mail: less than servers wait.
	maxIdle = 30 * time.Second
	// fullFor is how long a server isn't asked for more connections after it refused one beside those that there were.
	fullFor = time.Minute
)

// connections are those to one mail server. As many are opened as there are mails at a time; where the server won't have
// so many, mails wait for those that there are.
type connections struct {
	mu        sync.Mutex
	idle      []*connection
	count     int                // that are open or being opened
	waiting   []chan *connection // each gets one that was in use, or nil when one was closed
	fullUntil time.Time
}

// connect returns a connection that was kept, or a new one.
func (s *SMTP) connect(ctx context.Context) (conn *connection, kept bool, err error) {
	var refused error
	for {
		conn, wait := s.take(time.Now())
		if wait != nil {
			if conn, err = s.await(ctx, wait, s.config.Timeout); err != nil {
				return nil, false, err
			}
		}
		if conn != nil {
			return conn, true, nil
		}
		if refused != nil && s.none() {
			return nil, false, refused // it won't have even one
		}
		if conn, err = s.dial(ctx); err == nil || !s.full(err, time.Now()) {
			return conn, false, err
		}
		refused = err
	}
}

// none tells that there is no connection, and that none is being opened.
func (p *connections) none() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count == 0
}

// take returns a connection that was kept; or a place to wait for one, when it is known that there can't be more; or neither.
func (p *connections) take(now time.Time) (*connection, chan *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		conn := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if now.Sub(conn.usedAt) < maxIdle {
			return conn, nil
		}
		_ = conn.raw.Close()
		p.count--
	}
	if p.count == 0 || now.After(p.fullUntil) {
		return nil, nil
	}
	wait := make(chan *connection, 1)
	p.waiting = append(p.waiting, wait)
	return nil, wait
}

// await returns a connection that another mail is done with, or nil when one was closed and there is room for another.
func (p *connections) await(ctx context.Context, wait chan *connection, most time.Duration) (*connection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, most, errNoneFree)
	defer cancel()
	select {
	case conn := <-wait:
		return conn, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, wait); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return nil, context.Cause(ctx)
	}
	return <-wait, nil // it came at the last moment
}

var errNoneFree = errors.New("the mail server takes no more connections, and none became free")

// full tells of an error of dialing that the server only won't have more connections than there are.
func (p *connections) full(err error, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var reply *textproto.Error
	if !errors.As(err, &reply) || reply.Code/100 != 4 || p.count == 0 {
		return false
	}
	p.fullUntil = now.Add(fullFor)
	return true
}

func (p *connections) opening() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
}

// refused is after a connection could not be opened: that makes room for nobody, but where there is none now, nobody waits
// any longer.
func (p *connections) refused() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count--; p.count == 0 {
		p.wake()
	}
}

// closed makes room: for one of those who wait, or for all when they would wait in vain.
func (p *connections) closed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count--
	p.wake()
}

func (p *connections) wake() {
	for len(p.waiting) > 0 {
		p.waiting[0] <- nil
		if p.waiting = p.waiting[1:]; p.count > 0 {
			return
		}
	}
}

// giveBack hands the connection to who waits longest, or keeps it; one that isn't usable is closed.
func (p *connections) giveBack(conn *connection, usable bool) {
	if !usable {
		_ = conn.raw.Close()
		p.closed()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	conn.usedAt = time.Now()
	if len(p.waiting) > 0 {
		p.waiting[0] <- conn
		p.waiting = p.waiting[1:]
		return
	}
	p.idle = append(p.idle, conn)
}

// Close says good-bye on the connections that are kept.
func (p *connections) Close() error {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, conn := range idle {
		_ = conn.raw.SetDeadline(time.Now().Add(time.Second))
		_ = conn.Quit()
		_ = conn.raw.Close()
		p.closed()
	}
	return nil
}

package notify

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// BenchmarkSend takes 5,000 closed windows of 20 tasks to mails that a server on this machine has accepted: claim, freeze,
// attempt, send, outcome. Its limits: the same without a mail server, the same mails sent without a database, and a
// client that does nothing but write the bytes of the protocol.
func BenchmarkSend(b *testing.B) {
	const mails = benchWindows
	for _, past := range []int{0, 50_000} {
		b.Run(fmt.Sprintf("past=%dk", past*benchTasks/1000), func(b *testing.B) {
			w := company(b, durable(b), past)
			sink := newDrain(b)
			config, err := ParseSMTPURL("smtp://" + sink + "?tls=none")
			if err != nil {
				b.Fatal(err)
			}
			sender := NewSMTP(config)
			b.Cleanup(func() { _ = sender.Close() })
			round := 1
			closed := func() {
				round++
				w.exec(`INSERT INTO notices (tenant_id, recipient_id, account_id, state, opened_at, close_at, next_try_at)
SELECT 'demo', 'user-' || w % $2, 'account-' || w, 'closed', now(), now(), now() FROM generate_series(0, $1 - 1) w`, mails, benchPeople)
				w.gather("closed", "'task' || substr(account_id, 8)", round)
				w.exec(`VACUUM ANALYZE notices, notice_moves, notice_items, notice_attempts`)
				w.exec(`CHECKPOINT`)
			}
			deliver := func(s Sender) time.Duration {
				closed()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				w.sender = &counter{Sender: s, left: mails, last: cancel}
				took := timed(func() {
					if err := w.Run(ctx); err != nil {
						b.Fatal(err)
					}
				})
				if n := w.number(`SELECT count(*) FROM notices WHERE state <> 'sent'`); n > 0 {
					b.Fatalf("%d mails were not sent: %s", n, w.attempts())
				}
				return took
			}
			mail := &lastMail{}
			race(b, "mails", mails,
				contender{"smtp", func() time.Duration { return deliver(sender) }},
				contender{"nosmtp", func() time.Duration { return deliver(mail) }},
				contender{"nodb", func() time.Duration {
					return timed(func() {
						var group errgroup.Group
						group.SetLimit(senders)
						for range mails {
							group.Go(func() error { return sender.Send(context.Background(), mail.Frozen).Err })
						}
						if err := group.Wait(); err != nil {
							b.Fatal(err)
						}
					})
				}},
				contender{"raw", func() time.Duration { return timed(func() { rawSMTP(b, sink, mail.Frozen, mails) }) }},
			)
			b.ReportMetric(float64(len(mail.MIME)), "B/mail")
		})
	}
}

// counter tells when the last mail was accepted.
type counter struct {
	Sender
	mu   sync.Mutex
	left int
	last func()
}

func (c *counter) Send(ctx context.Context, mail Frozen) Result {
	r := c.Sender.Send(ctx, mail)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.last()
	}
	return r
}

// lastMail accepts every mail and remembers one.
type lastMail struct {
	mu sync.Mutex
	Frozen
}

func (l *lastMail) Send(_ context.Context, mail Frozen) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Frozen = mail
	return Result{Outcome: Accepted, Code: 250}
}

// newDrain is a mail server that accepts everything and keeps nothing; it costs as little as it can.
func newDrain(b *testing.B) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go drain(conn)
		}
	}()
	return l.Addr().String()
}

func drain(conn net.Conn) {
	defer conn.Close()
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)
	say := func(reply string) bool {
		_, _ = out.WriteString(reply + "\r\n")
		return in.Buffered() > 0 || out.Flush() == nil
	}
	for ok := say("220 drain.example ESMTP"); ok; {
		line, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return
		case bytes.HasPrefix(line, []byte("EHLO")):
			ok = say("250-drain.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES")
		case bytes.HasPrefix(line, []byte("DATA")):
			for ok = say("354 go on"); ok && err == nil && string(line) != ".\r\n"; {
				line, err = in.ReadSlice('\n')
			}
			ok = ok && say("250 2.0.0 queued")
		case bytes.HasPrefix(line, []byte("QUIT")):
			say("221 2.0.0 bye")
			return
		default:
			ok = say("250 2.0.0 ok")
		}
	}
}

// rawSMTP sends the mail so many times over as many connections as the notifier has, with nothing around the protocol.
func rawSMTP(b *testing.B, address string, mail Frozen, mails int) {
	commands := []byte("MAIL FROM:<" + mail.From + ">\r\nRCPT TO:<" + mail.To + ">\r\nDATA\r\n")
	body := append(bytes.ReplaceAll(mail.MIME, []byte("\n."), []byte("\n..")), ".\r\n"...)
	var group errgroup.Group
	for range senders {
		group.Go(func() error {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			replies := func(n int) error {
				for range n {
					if _, err := in.ReadSlice('\n'); err != nil {
						return err
					}
				}
				return nil
			}
			if err := replies(1); err != nil {
				return err
			}
			for range mails / senders {
				if _, err := conn.Write(commands); err != nil {
					return err
				}
				if err := replies(3); err != nil {
					return err
				}
				if _, err := conn.Write(body); err != nil {
					return err
				}
				if err := replies(1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"sync"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

const (
	sendTimeout = time.Minute // of a mail, unless configured
	dialTimeout = 20 * time.Second
	// stopGrace is what a mail under way gets when the process stops.
	stopGrace = 10 * time.Second
	// maxIdle is how long a connection is kept for the next mail: less than servers wait.
	maxIdle = 30 * time.Second
)

// SMTP sends by a mail server. It speaks the transaction itself, over a connection that go-mail opened (TLS and
// authentication are its part): only so is it certain which bytes are sent, and at which point a mail failed.
type SMTP struct {
	config SMTPConfig

	mu   sync.Mutex
	idle []*connection
}

type connection struct {
	*smtp.Client
	raw    net.Conn // below TLS; its deadline can be moved while a command waits
	usedAt time.Time
}

// NewSMTP doesn't connect; the first mail does.
func NewSMTP(c SMTPConfig) *SMTP {
	if c.Timeout <= 0 {
		c.Timeout = sendTimeout
	}
	return &SMTP{config: c}
}

// Send implements Sender. Whatever fails before the connection stands, refuses the sender, or is a 421, is NotSent; a
// connection lost before the mail was handed over whole is RejectedForNow.
func (s *SMTP) Send(ctx context.Context, mail Frozen) Result {
	conn, reused, err := s.connect(ctx)
	if err != nil {
		return failed(NotSent, "connect", err)
	}
	result, stale := s.transact(ctx, conn, mail)
	if stale && reused {
		// The server had hung up meanwhile, and heard nothing of this mail.
		if conn, err = s.dial(ctx); err != nil {
			return failed(NotSent, "connect", err)
		}
		result, _ = s.transact(ctx, conn, mail)
	}
	return result
}

// Close says good-bye on the connections that are kept.
func (s *SMTP) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.idle {
		_ = conn.raw.SetDeadline(time.Now().Add(time.Second))
		_ = conn.Quit()
		_ = conn.raw.Close()
	}
	s.idle = nil
	return nil
}

// transact runs one mail transaction and keeps or closes the connection. Stale means that the connection was already
// gone at its first command.
func (s *SMTP) transact(ctx context.Context, conn *connection, mail Frozen) (result Result, stale bool) {
	deadline := time.Now().Add(s.config.Timeout)
	_ = conn.raw.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() {
		if soon := time.Now().Add(stopGrace); soon.Before(deadline) {
			_ = conn.raw.SetDeadline(soon)
		}
	})
	usable := false
	defer func() {
		stop()
		s.keep(conn, usable)
	}()

	// Asking for SMTPUTF8 without need makes servers refuse what they could have delivered.
	conn.SkipSMTPUTF8(isASCII(mail.From) && isASCII(mail.To))
	if err := conn.Mail("<" + mail.From + ">"); err != nil {
		result, code := refused("MAIL", err)
		if code >= 500 {
			// Refusing the sender is refusing every mail: nothing to charge this one with.
			result.Outcome = NotSent
		}
		usable = s.reset(conn, code)
		return result, code == 0 || code == 421
	}
	if err := conn.Rcpt("<" + mail.To + ">"); err != nil {
		result, code := refused("RCPT", err)
		usable = s.reset(conn, code)
		return result, false
	}
	body, err := conn.Data()
	if err != nil {
		result, code := refused("DATA", err)
		usable = s.reset(conn, code)
		return result, false
	}
	if _, err := body.Write(mail.MIME); err != nil {
		// The final dot was not written, and the connection is cut without a QUIT, which would write it.
		return failed(RejectedForNow, "body", err), false
	}
	err = body.Close()
	var reply *textproto.Error
	switch {
	case err == nil || errors.As(err, &reply) && reply.Code/100 == 2:
		usable = true
		result := Result{Outcome: Accepted, Code: 250}
		if data, ok := body.(*smtp.DataCloser); ok {
			result.Response = data.ServerResponse()
		}
		return result, false
	case reply == nil || reply.Code < 400:
		return failed(Unknown, "after the mail", err), false
	}
	result, code := refused("after the mail", err)
	usable = s.reset(conn, code)
	return result, false
}

// refused is the result of a command that failed before the mail could have been accepted, with the code of the reply.
func refused(step string, err error) (Result, int) {
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		return failed(RejectedForNow, step, err), 0
	}
	switch code := reply.Code; {
	case code == 421, code == 530, code == 534, code == 535, code == 538:
		return failed(NotSent, step, err), code
	case code >= 500:
		return failed(Rejected, step, err), code
	default:
		return failed(RejectedForNow, step, err), code
	}
}

func failed(outcome Outcome, step string, err error) Result {
	result := Result{Outcome: outcome, Response: step + ": " + err.Error(), Err: fmt.Errorf("%s: %w", step, err)}
	var reply *textproto.Error
	if errors.As(err, &reply) {
		result.Code = reply.Code
	}
	return result
}

// reset makes the connection fit for the next mail after a refusal; false when it isn't.
func (s *SMTP) reset(conn *connection, code int) bool {
	return code != 0 && code != 421 && conn.Reset() == nil
}

func (s *SMTP) connect(ctx context.Context) (conn *connection, reused bool, err error) {
	if conn := s.takeIdle(); conn != nil {
		return conn, true, nil
	}
	conn, err = s.dial(ctx)
	return conn, false, err
}

func (s *SMTP) takeIdle() *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		conn := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if time.Since(conn.usedAt) < maxIdle {
			return conn
		}
		_ = conn.raw.Close()
	}
	return nil
}

func (s *SMTP) keep(conn *connection, usable bool) {
	if !usable {
		_ = conn.raw.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	conn.usedAt = time.Now()
	s.idle = append(s.idle, conn)
}

// dial makes a client of its own for each connection: go-mail's remembers the way it authenticates without a lock.
func (s *SMTP) dial(ctx context.Context) (*connection, error) {
	var raw net.Conn
	config := s.config.TLS.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName = s.config.Host
	}
	options := []mail.Option{
		mail.WithPort(s.config.Port), mail.WithTimeout(min(dialTimeout, s.config.Timeout)), mail.WithTLSConfig(config),
		mail.WithDialContextFunc(func(ctx context.Context, network, _ string) (net.Conn, error) {
			// The library doesn't close what it dialed when a later step fails, so we must know it.
			var err error
			raw, err = new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(s.config.Host, strconv.Itoa(s.config.Port)))
			if err != nil || s.config.Security != ImplicitTLS {
				return raw, err
			}
			secured := tls.Client(raw, config)
			return secured, secured.HandshakeContext(ctx)
		}),
	}
	switch s.config.Security {
	case ImplicitTLS:
		options = append(options, mail.WithSSL())
	case NoTLS:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.config.User != "" {
		options = append(options, mail.WithUsername(s.config.User), mail.WithPassword(s.config.Password),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	client, err := mail.NewClient(s.config.Host, options...)
	if err != nil {
		return nil, err
	}
	spoken, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		if raw != nil {
			_ = raw.Close()
		}
		return nil, err
	}
	return &connection{Client: spoken, raw: raw}, nil
}

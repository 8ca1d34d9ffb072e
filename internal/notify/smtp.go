package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

const (
	sendTimeout = time.Minute // of a mail, unless configured
	dialTimeout = 20 * time.Second
	// stopGrace is what a mail under way gets when the process stops.
	stopGrace = 10 * time.Second
)

// SMTP sends by a mail server. It speaks the transaction itself, over a connection that go-mail opened (TLS and
// authentication are its part): only so is it certain which bytes are sent, and at which point a mail failed. Connections
// are kept for the mails that follow.
type SMTP struct {
	config SMTPConfig
	connections
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
	if strings.ContainsAny(mail.From+mail.To, "\r\n<>") {
		return failed(Rejected, "address", errAddress)
	}
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

var errAddress = errors.New("an address can't be written into a command")

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
		s.giveBack(conn, usable)
	}()

	commands := conn.commands(mail)
	said := conn.sayAhead(commands)
	for i, c := range commands {
		err := conn.ask(c, said)
		if err == nil {
			continue
		}
		result, code := refused(c.verb, err)
		if i == 0 && code >= 500 {
			// Refusing the sender is refusing every mail: nothing to charge this one with.
			result.Outcome = NotSent
		}
		usable = code != 0 && code != 421 && (!said || conn.hear(commands[i+1:])) && conn.Reset() == nil
		return result, i == 0 && (code == 0 || code == 421)
	}
	if err := conn.write(mail.MIME); err != nil {
		// The final dot was not written, and the connection is cut without a QUIT.
		return failed(RejectedForNow, "body", err), false
	}
	response, err := conn.end()
	var reply *textproto.Error
	switch {
	case err == nil || errors.As(err, &reply) && reply.Code/100 == 2:
		usable = true
		return Result{Outcome: Accepted, Code: 250, Response: response}, false
	case reply == nil || reply.Code < 400:
		return failed(Unknown, "after the mail", err), false
	}
	result, code := refused("after the mail", err)
	usable = code != 421 && conn.Reset() == nil
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

// dial makes a client of its own for each connection: go-mail's remembers the way it authenticates without a lock.
func (s *SMTP) dial(ctx context.Context) (conn *connection, err error) {
	s.opening()
	defer func() {
		if err != nil {
			s.refused()
		}
	}()
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

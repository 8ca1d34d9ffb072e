package testkit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// Fault is what a mail server does to its clients.
type Fault string

// The faults. After those marked *, the server has the mail; the client may not know.
const (
	SMTPOK             Fault = "ok"               // *
	SMTPConnect421     Fault = "connect421"       // not now
	SMTPMail451        Fault = "mail451"          // the sender is refused for now
	SMTPRcpt550        Fault = "rcpt550"          // there is no such recipient
	SMTPRcptGoesOn     Fault = "rcpt-goes-on"     // there is no such recipient, but the server takes a mail to nobody
	SMTPDataDrop       Fault = "data-drop"        // the connection breaks before the mail
	SMTPDot451         Fault = "dot451"           // the mail is refused for now
	SMTPDot552         Fault = "dot552"           // the mail is refused for ever
	SMTPDropAfterDot   Fault = "drop-after-dot"   // * the connection breaks instead of an answer
	SMTPStallAfterDot  Fault = "stall-after-dot"  // * there is no answer
	SMTPDropBeforeRset Fault = "drop-before-rset" // * accepted, then the connection breaks at RSET or the next mail
	SMTPDropOnQuit     Fault = "drop-on-quit"     // * accepted, then the connection breaks at QUIT
)

// Mail is one that a Sink has.
type Mail struct {
	From string
	To   []string
	Data []byte // with CRLF, as it came
}

// Sink is a mail server on this machine that keeps what it gets.
type Sink struct {
	listener net.Listener
	normal   *smtp.Server
	handed   chan net.Conn // to normal
	ended    chan struct{}

	mu         sync.Mutex
	mode       Fault
	pipelining bool
	limit      int // of connections; 0: none
	accepted   []Mail
	open       map[net.Conn]struct{}
	dialed     int
}

// SMTP starts a mail server; it ends with the test.
func SMTP(t testing.TB, mode Fault) *Sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{listener: l, mode: mode, handed: make(chan net.Conn), ended: make(chan struct{}), open: map[net.Conn]struct{}{}}
	s.normal = smtp.NewServer(s)
	s.normal.Domain = "sink.example"
	s.normal.ErrorLog = silent{}
	var running sync.WaitGroup
	running.Go(func() { _ = s.normal.Serve(fromSink{s}) })
	running.Go(func() { s.accept(&running) })
	t.Cleanup(func() {
		close(s.ended)
		_ = l.Close()
		_ = s.normal.Close()
		s.mu.Lock()
		open := slices.Collect(maps.Keys(s.open))
		s.mu.Unlock()
		for _, c := range open {
			_ = c.Close()
		}
		running.Wait()
	})
	return s
}

// URL is how to send here, without TLS and without a password.
func (s *Sink) URL() string { return "smtp://" + s.listener.Addr().String() + "?tls=none" }

// Set changes what happens to connections made from now on.
func (s *Sink) Set(mode Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = mode
}

// Pipelining has faulty servers take commands ahead of their replies, as a server without faults does always.
func (s *Sink) Pipelining() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pipelining = true
}

// Limit has the server refuse connections beside so many.
func (s *Sink) Limit(connections int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = connections
}

// Dialed is how many connections were asked for.
func (s *Sink) Dialed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialed
}

// Accepted is every mail that the server has, in the order in which they came.
func (s *Sink) Accepted() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.accepted)
}

// Take is Accepted, and forgets them, for tests that go on for long.
func (s *Sink) Take() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.accepted
	s.accepted = nil
	return taken
}

func (s *Sink) keep(m Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = append(s.accepted, m)
}

func (s *Sink) accept(running *sync.WaitGroup) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		mode, pipelining := s.mode, s.pipelining
		s.dialed++
		if s.limit > 0 && len(s.open) >= s.limit {
			mode = SMTPConnect421
		} else {
			conn = counted{conn, s}
			s.open[conn] = struct{}{}
		}
		s.mu.Unlock()
		if mode == SMTPOK {
			select {
			case s.handed <- conn:
			case <-s.ended:
				return
			}
			continue
		}
		running.Go(func() {
			(&script{sink: s, conn: conn, in: textproto.NewReader(bufio.NewReader(conn)), mode: mode, pipelining: pipelining}).run()
			_ = conn.Close()
		})
	}
}

// counted is a connection of which the Sink knows when it ends.
type counted struct {
	net.Conn
	sink *Sink
}

func (c counted) Close() error {
	c.sink.mu.Lock()
	delete(c.sink.open, c)
	c.sink.mu.Unlock()
	return c.Conn.Close()
}

// fromSink is the listener of the normal server: it gets its connections from the Sink.
type fromSink struct{ *Sink }

func (h fromSink) Accept() (net.Conn, error) {
	select {
	case c := <-h.handed:
		return c, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

func (h fromSink) Close() error   { return nil }
func (h fromSink) Addr() net.Addr { return h.listener.Addr() }

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// NewSession is for the normal server.
func (s *Sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{sink: s}, nil }

type session struct {
	sink *Sink
	mail Mail
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.mail.From = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) (err error) {
	if s.mail.Data, err = io.ReadAll(r); err == nil {
		s.sink.keep(s.mail)
	}
	return err
}

func (s *session) Reset()        { s.mail = Mail{} }
func (s *session) Logout() error { return nil }

// script speaks just enough SMTP to fail at one point of it.
type script struct {
	sink *Sink
	conn net.Conn
	in   *textproto.Reader
	mode Fault
	mail Mail
	done bool // a mail was accepted on this connection

	pipelining bool
}

var errDrop = errors.New("drop the connection")

func (s *script) run() {
	if s.mode == SMTPConnect421 {
		_ = s.say("421 4.3.2 come back later")
		return
	}
	if s.say("220 sink.example ESMTP") != nil {
		return
	}
	for {
		line, err := s.in.ReadLine()
		if err != nil {
			return
		}
		verb, argument, _ := strings.Cut(line, " ")
		if err := s.answer(strings.ToUpper(verb), argument); err != nil {
			return
		}
	}
}

func (s *script) answer(verb, argument string) error {
	switch verb {
	case "EHLO":
		extensions := "250-sink.example\r\n250-8BITMIME\r\n"
		if s.pipelining {
			extensions += "250-PIPELINING\r\n"
		}
		return s.say(extensions + "250 ENHANCEDSTATUSCODES")
	case "MAIL":
		if s.mode == SMTPMail451 {
			return s.say("451 4.7.1 greylisted")
		}
		if s.mode == SMTPDropBeforeRset && s.done {
			return errDrop
		}
		s.mail = Mail{From: address(argument)}
	case "RCPT":
		if s.mail.From == "" {
			return s.say("503 5.5.1 MAIL first")
		}
		if s.mode == SMTPRcpt550 || s.mode == SMTPRcptGoesOn {
			return s.say("550 5.1.1 no such user")
		}
		s.mail.To = append(s.mail.To, address(argument))
	case "DATA":
		return s.data()
	case "RSET":
		if s.mode == SMTPDropBeforeRset && s.done {
			return errDrop
		}
		s.mail = Mail{}
	case "QUIT":
		if s.mode == SMTPDropOnQuit {
			return errDrop
		}
		_ = s.say("221 2.0.0 bye")
		return errDrop
	}
	return s.say("250 2.0.0 ok")
}

func (s *script) data() error {
	if s.mode == SMTPDataDrop {
		return errDrop
	}
	if len(s.mail.To) == 0 && s.mode != SMTPRcptGoesOn {
		return s.say("503 5.5.1 RCPT first")
	}
	if err := s.say("354 go on"); err != nil {
		return err
	}
	body, err := s.in.ReadDotBytes()
	if err != nil {
		return err
	}
	switch s.mode {
	case SMTPDot451:
		return s.say("451 4.3.0 try again")
	case SMTPDot552:
		return s.say("552 5.3.4 too big")
	}
	s.mail.Data = bytes.ReplaceAll(body, []byte("\n"), []byte("\r\n"))
	s.sink.keep(s.mail)
	s.done = true
	switch s.mode {
	case SMTPDropAfterDot:
		return errDrop
	case SMTPStallAfterDot:
		_, err := io.Copy(io.Discard, s.conn) // until the client, or the test, has had enough
		return errors.Join(errDrop, err)
	}
	return s.say("250 2.0.0 queued as SINK1")
}

func (s *script) say(line string) error {
	_, err := fmt.Fprintf(s.conn, "%s\r\n", line)
	return err
}

// address is what stands between the angle brackets of MAIL FROM:<…> and RCPT TO:<…>.
func address(argument string) string {
	_, after, _ := strings.Cut(argument, "<")
	inside, _, _ := strings.Cut(after, ">")
	return inside
}

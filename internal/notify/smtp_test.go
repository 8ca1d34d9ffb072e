package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"pgregory.net/rapid"

	"handover.io/internal/testkit"
)

func smtpTo(t *testing.T, url string) *SMTP {
	t.Helper()
	c, err := ParseSMTPURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c.Timeout = 2 * time.Second
	s := NewSMTP(c)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var anyMail = Frozen{ID: 1, From: "handover@example.com", To: "ada@example.com", MIME: []byte("Subject: x\r\n\r\n.dots\r\n..more\r\n")}

// Every way in which a mail server fails, through the whole of the notifier.
func TestAMailServersFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault           testkit.Fault
		state, attempts string
		accepted        int
	}{
		{testkit.SMTPOK, Sent, "accepted", 1},
		{testkit.SMTPConnect421, Closed, "not_sent", 0},
		{testkit.SMTPMail451, Closed, "rejected_for_now", 0},
		{testkit.SMTPRcpt550, Undeliverable, "rejected", 0},
		{testkit.SMTPRcptGoesOn, Undeliverable, "rejected", 0},
		{testkit.SMTPDataDrop, Closed, "rejected_for_now", 0},
		{testkit.SMTPDot451, Closed, "rejected_for_now", 0},
		{testkit.SMTPDot552, Undeliverable, "rejected", 0},
		{testkit.SMTPDropAfterDot, Ambiguous, "unknown", 1},
		{testkit.SMTPStallAfterDot, Ambiguous, "unknown", 1},
		{testkit.SMTPDropBeforeRset, Sent, "accepted", 1},
		{testkit.SMTPDropOnQuit, Sent, "accepted", 1},
	} {
		for _, pipelining := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, pipelining %t", c.fault, pipelining), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				sink := testkit.SMTP(t, c.fault)
				if pipelining {
					sink.Pipelining()
				}
				w.sender = smtpTo(t, sink.URL())
				w.handle(w.move("acme", "maya", "ada", "t1"))
				w.elapse(DefaultWindow)
				if _, err := w.RunOnce(context.Background()); err != nil {
					t.Fatal(err)
				}
				w.expect("ada acme " + c.state)
				if got := w.attempts(); got != c.attempts {
					t.Errorf("attempts: %s, want %s", got, c.attempts)
				}
				if n := len(sink.Accepted()); n != c.accepted {
					t.Errorf("the server accepted %d mails, want %d", n, c.accepted)
				}
				// The server recovers: what can be sent is sent, and nothing twice.
				sink.Set(testkit.SMTPOK)
				_ = w.sender.(*SMTP).Close() // the connections of before fail as before
				w.channel.works()
				w.elapse(2 * time.Hour)
				if _, err := w.RunOnce(context.Background()); err != nil {
					t.Fatal(err)
				}
				want := 1
				if c.state == Undeliverable {
					want = 0
				}
				if n := len(sink.Accepted()); n != want {
					t.Errorf("the server accepted %d mails in the end, want %d", n, want)
				}
			})
		}
	}
}

func TestTheServerGetsTheFrozenBytes(t *testing.T) {
	t.Parallel()
	for _, fault := range []testkit.Fault{testkit.SMTPOK, testkit.SMTPDropOnQuit} {
		sink := testkit.SMTP(t, fault)
		s := smtpTo(t, sink.URL())
		for range 3 {
			if r := s.Send(context.Background(), anyMail); r.Outcome != Accepted || r.Err != nil {
				t.Fatalf("%+v", r)
			}
		}
		for _, got := range sink.Accepted() {
			if !bytes.Equal(got.Data, anyMail.MIME) || got.From != anyMail.From || len(got.To) != 1 || got.To[0] != anyMail.To {
				t.Errorf("%s: got %q from %s to %v", fault, got.Data, got.From, got.To)
			}
		}
		if n := len(sink.Accepted()); n != 3 {
			t.Errorf("%d mails", n)
		}
	}
}

func TestAConnectionThatWentStaleIsReplaced(t *testing.T) {
	t.Parallel()
	sink := testkit.SMTP(t, testkit.SMTPDropBeforeRset)
	s := smtpTo(t, sink.URL())
	for range 3 {
		if r := s.Send(context.Background(), anyMail); r.Outcome != Accepted {
			t.Fatalf("%+v", r)
		}
	}
	if n := len(sink.Accepted()); n != 3 {
		t.Errorf("%d mails, want 3", n)
	}
}

func TestMailsWaitWhereTheServerWontHaveMoreConnections(t *testing.T) {
	t.Parallel()
	sink := testkit.SMTP(t, testkit.SMTPOK)
	sink.Limit(2)
	s := smtpTo(t, sink.URL())
	const senders, each = 16, 12
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for range each {
				if r := s.Send(context.Background(), anyMail); r.Outcome != Accepted {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	all.Wait()
	if n := len(sink.Accepted()); n != senders*each {
		t.Errorf("%d mails, want %d", n, senders*each)
	}
	// Where nobody has a connection there is nothing to wait for.
	_ = s.Close()
	sink.Set(testkit.SMTPConnect421)
	before := sink.Dialed()
	for range senders {
		all.Go(func() {
			if r := s.Send(context.Background(), anyMail); r.Outcome != NotSent || r.Code != 421 {
				t.Errorf("%+v", r)
			}
		})
	}
	all.Wait()
	if n := sink.Dialed() - before; n > 2*senders {
		t.Errorf("a server that refuses connections was asked for %d by %d senders", n, senders)
	}
}

func TestAMailThatWaitsForAConnectionIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	sink := testkit.SMTP(t, testkit.SMTPStallAfterDot)
	sink.Limit(1)
	s := smtpTo(t, sink.URL())
	outcomes := make(chan Outcome, 3)
	var all sync.WaitGroup
	for range cap(outcomes) {
		all.Go(func() { outcomes <- s.Send(context.Background(), anyMail).Outcome })
	}
	all.Wait()
	close(outcomes)
	unknown := 0
	for o := range outcomes {
		if o == Unknown {
			unknown++
		} else if o != NotSent {
			t.Errorf("a mail that waited ended as %s", o)
		}
	}
	if n := len(sink.Accepted()); unknown != n || n == 0 {
		t.Errorf("%d unknown, %d accepted", unknown, n)
	}
}

func TestTheWireIsWhatTheStandardLibraryWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mail := "x" + strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{".", "\n", "\r\n", "x", "\r\n.", ". ", "word"})).Draw(t, "mail"), "")
		var want bytes.Buffer
		out := bufio.NewWriter(&want)
		dots := textproto.NewWriter(out).DotWriter()
		_, _ = dots.Write([]byte(mail))
		_ = dots.Close()
		if got := string(dotted([]byte(mail))) + ".\r\n"; got != want.String() {
			t.Fatalf("%q is %q, want %q", mail, got, want.String())
		}
	})
}

func TestAnAddressCantBringACommand(t *testing.T) {
	t.Parallel()
	sink := testkit.SMTP(t, testkit.SMTPOK)
	mail := anyMail
	mail.To = "a@example.com>\r\nRCPT TO:<b@example.com"
	if r := smtpTo(t, sink.URL()).Send(context.Background(), mail); r.Outcome != Rejected || len(sink.Accepted()) != 0 {
		t.Errorf("%+v, %d mails", r, len(sink.Accepted()))
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	if r := smtpTo(t, "smtp://"+address+"?tls=none").Send(context.Background(), anyMail); r.Outcome != NotSent || r.Err == nil {
		t.Errorf("%+v", r)
	}
}

// secure is a server with TLS and passwords.
type secure struct {
	mu       sync.Mutex
	accepted int
}

type secureSession struct{ *secure }

func (s *secure) NewSession(*smtp.Conn) (smtp.Session, error) { return secureSession{s}, nil }
func (s secureSession) AuthMechanisms() []string              { return []string{sasl.Plain} }
func (s secureSession) Mail(string, *smtp.MailOptions) error  { return nil }
func (s secureSession) Rcpt(string, *smtp.RcptOptions) error  { return nil }
func (s secureSession) Reset()                                {}
func (s secureSession) Logout() error                         { return nil }
func (s secureSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "user" || password != "p@ss" {
			return &smtp.SMTPError{Code: 535, Message: "no"}
		}
		return nil
	}), nil
}

func (s secureSession) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted++
	return err
}

// serve starts it and returns its address.
func (s *secure) serve(t *testing.T, cert tls.Certificate, implicit, plain bool) string {
	t.Helper()
	server := smtp.NewServer(s)
	server.ErrorLog = discard{}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	if implicit {
		l = tls.NewListener(l, config)
	} else if !plain {
		server.TLSConfig = config
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return "127.0.0.1:" + strconv.Itoa(address.Port)
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLSAndPasswords(t *testing.T) {
	t.Parallel()
	cert, trusted := certificate(t)
	for name, c := range map[string]struct {
		url      string
		implicit bool // the server speaks TLS from the first byte
		plain    bool // the server offers no TLS
		trust    bool
		want     Outcome
	}{
		"STARTTLS":               {"smtp://user:p%40ss@", false, false, true, Accepted},
		"implicit TLS":           {"smtps://user:p%40ss@", true, false, true, Accepted},
		"without STARTTLS":       {"smtp://", false, true, true, NotSent},
		"unknown certificate":    {"smtp://user:p%40ss@", false, false, false, NotSent},
		"unknown certificate, s": {"smtps://user:p%40ss@", true, false, false, NotSent},
		"wrong password":         {"smtp://user:wrong@", false, false, true, NotSent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := &secure{}
			host := backend.serve(t, cert, c.implicit, c.plain)
			s := smtpTo(t, c.url+host)
			if c.trust {
				s.config.TLS = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
			}
			for range 2 {
				if r := s.Send(context.Background(), anyMail); r.Outcome != c.want {
					t.Errorf("%+v", r)
				}
			}
			backend.mu.Lock()
			defer backend.mu.Unlock()
			if (backend.accepted == 2) != (c.want == Accepted) {
				t.Errorf("%d mails accepted", backend.accepted)
			}
		})
	}
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

func TestFilesAreWholeAndOnePerNotice(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mail")
	f, err := NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	mail := anyMail
	mail.To = "../Ada.Lovelace+x@Example.com"
	for range 2 {
		if r := f.Send(context.Background(), mail); r.Outcome != Accepted {
			t.Fatalf("%+v", r)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "1-ada.lovelace-x-example.com.eml" {
		t.Fatalf("%v %v", entries, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, entries[0].Name())); err != nil || !bytes.Equal(got, mail.MIME) {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if r := f.Send(context.Background(), mail); r.Outcome != NotSent || !errors.Is(r.Err, os.ErrNotExist) {
		t.Errorf("%+v", r)
	}
}

func TestParseSMTPURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]SMTPConfig{
		"smtp://mail.example.com":                     {Host: "mail.example.com", Port: 587, Security: StartTLS},
		"smtp://user:p%40ss@mail.example.com:25":      {Host: "mail.example.com", Port: 25, User: "user", Password: "p@ss", Security: StartTLS},
		"smtps://user:secret@mail.example.com":        {Host: "mail.example.com", Port: 465, User: "user", Password: "secret", Security: ImplicitTLS},
		"smtp://localhost:1025?tls=none":              {Host: "localhost", Port: 1025, Security: NoTLS},
		"smtp://user:secret@127.0.0.1:1025/?tls=none": {Host: "127.0.0.1", Port: 1025, User: "user", Password: "secret", Security: NoTLS},
		"smtp://[::1]:25":                             {Host: "::1", Port: 25, Security: StartTLS},
	} {
		if got, err := ParseSMTPURL(url); err != nil || got != want {
			t.Errorf("%s: %+v, %v", url, got, err)
		}
	}
	for _, url := range []string{
		"", "mail.example.com:25", "http://mail.example.com", "smtp://", "smtp://:25", "smtp://host:0", "smtp://host:secretport", "smtp://host:70000",
		"smtp://host/path", "smtp://host?tls=maybe", "smtp://host?starttls=no", "smtps://host?tls=none", "smtp://user@host",
		"smtp://user:secret@host?tls=none", "smtp://user:secret%zz@host",
	} {
		_, err := ParseSMTPURL(url)
		if err == nil || !strings.HasPrefix(err.Error(), "HANDOVER_SMTP_URL: ") || strings.Contains(err.Error(), "secret%") || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

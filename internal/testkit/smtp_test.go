package testkit

import (
	"context"
	"errors"
	"net"
	"net/smtp"
	"net/textproto"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// send sends one mail and says how far it came: the reply code that ended it, 0 for a broken or silent connection, 250.
func send(t *testing.T, s *Sink) (code int, quit error) {
	t.Helper()
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	patience := 10 * time.Second
	if s.mode == SMTPStallAfterDot {
		patience = 100 * time.Millisecond
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "sink.example")
	if err != nil {
		return codeOf(err), nil
	}
	defer c.Close()
	if err := c.Mail("from@example.com"); err != nil {
		return codeOf(err), nil
	}
	if err := c.Rcpt("to@example.com"); err != nil {
		return codeOf(err), nil
	}
	w, err := c.Data()
	if err != nil {
		return codeOf(err), nil
	}
	if _, err := w.Write([]byte("Subject: x\r\n\r\n.dot\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		return codeOf(err), nil
	}
	if err := c.Reset(); err != nil {
		return 250, err
	}
	return 250, c.Quit()
}

func codeOf(err error) int {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return reply.Code
	}
	return 0
}

func TestTheSinkFailsAsTold(t *testing.T) {
	t.Parallel()
	mail := Mail{From: "from@example.com", To: []string{"to@example.com"}, Data: []byte("Subject: x\r\n\r\n.dot\r\n")}
	for _, c := range []struct {
		mode     Fault
		code     int
		accepted bool
		quits    bool
	}{
		{SMTPOK, 250, true, true},
		{SMTPConnect421, 421, false, false},
		{SMTPMail451, 451, false, false},
		{SMTPRcpt550, 550, false, false},
		{SMTPDataDrop, 0, false, false},
		{SMTPDot451, 451, false, false},
		{SMTPDot552, 552, false, false},
		{SMTPDropAfterDot, 0, true, false},
		{SMTPStallAfterDot, 0, true, false},
		{SMTPDropBeforeRset, 250, true, false},
		{SMTPDropOnQuit, 250, true, false},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			t.Parallel()
			s := SMTP(t, c.mode)
			code, quit := send(t, s)
			if code != c.code || (code == 250 && (quit == nil) != c.quits) {
				t.Errorf("got %d (%v), want %d", code, quit, c.code)
			}
			var want []Mail
			if c.accepted {
				want = append(want, mail)
			}
			if diff := cmp.Diff(want, s.Accepted()); diff != "" {
				t.Errorf("accepted (-want +got):\n%s", diff)
			}
			s.Set(SMTPOK)
			if code, quit := send(t, s); code != 250 || quit != nil {
				t.Errorf("when it works again: got %d (%v)", code, quit)
			}
		})
	}
}

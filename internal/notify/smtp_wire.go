package notify

import (
	"bytes"
	"net"
	"time"

	"github.com/wneessen/go-mail/smtp"
)

// connection is one to a mail server. Its errors are *textproto.Error where the server has replied.
type connection struct {
	*smtp.Client
	raw    net.Conn // below TLS; its deadline can be moved while a command waits
	usedAt time.Time
}

type command struct {
	verb, line string
	want       int // the code of the reply, or its first digits
}

// commands are those before the mail itself.
func (c *connection) commands(mail Frozen) []command {
	from := "MAIL FROM:<" + mail.From + ">"
	if c.can("8BITMIME") {
		from += " BODY=8BITMIME"
	}
	// Asking for it without need makes servers refuse what they could have delivered.
	if c.can("SMTPUTF8") && !(isASCII(mail.From) && isASCII(mail.To)) {
		from += " SMTPUTF8"
	}
	return []command{{"MAIL", from, 250}, {"RCPT", "RCPT TO:<" + mail.To + ">", 25}, {"DATA", "DATA", 354}}
}

func (c *connection) can(extension string) bool {
	ok, _ := c.Extension(extension)
	return ok
}

// sayAhead writes the commands together, where the server takes them so (RFC 2920): one round trip instead of three. The
// replies are asked for one by one all the same, and nothing of the mail is sent before the last of them. An error of
// writing shows when they are.
func (c *connection) sayAhead(commands []command) bool {
	if !c.can("PIPELINING") {
		return false
	}
	for _, command := range commands {
		_, _ = c.Text.W.WriteString(command.line + "\r\n")
	}
	_ = c.Text.W.Flush()
	return true
}

// ask waits for the reply to a command, which it says before unless that was done.
func (c *connection) ask(command command, said bool) error {
	if !said {
		if err := c.Text.PrintfLine("%s", command.line); err != nil {
			return err
		}
	}
	_, _, err := c.Text.ReadResponse(command.want)
	return err
}

// hear reads the replies to commands said ahead after one that was refused. It is false when the connection must be cut: it
// is broken, or the server waits for a mail all the same, and any end of it could be taken for one.
func (c *connection) hear(commands []command) bool {
	for _, command := range commands {
		code, _, err := c.Text.ReadResponse(0)
		if err != nil || code == command.want && command.verb == "DATA" {
			return false
		}
	}
	return true
}

// write sends a mail up to, and without, the dot that ends it.
func (c *connection) write(mail []byte) error {
	if _, err := c.Text.W.Write(dotted(mail)); err != nil {
		return err
	}
	return c.Text.W.Flush()
}

// end says that the mail is whole, and returns what the server says to that.
func (c *connection) end() (string, error) {
	if err := c.Text.PrintfLine("."); err != nil {
		return "", err
	}
	_, response, err := c.Text.ReadResponse(250)
	return response, err
}

// dotted is a mail as it goes over the wire: every line ends with CRLF, and a dot that begins one is doubled.
func dotted(mail []byte) []byte {
	out := make([]byte, 0, len(mail)+len(mail)/32+2)
	for len(mail) > 0 {
		line, rest, _ := bytes.Cut(mail, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > 0 && line[0] == '.' {
			out = append(out, '.')
		}
		out, mail = append(append(out, line...), "\r\n"...), rest
	}
	return out
}

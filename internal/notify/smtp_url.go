package notify

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Security is how a connection to a mail server is protected.
type Security string

// STARTTLS is the default; a server that doesn't offer it is refused.
const (
	StartTLS    Security = "starttls"
	ImplicitTLS Security = "implicit"
	NoTLS       Security = "none"
)

// SMTPConfig is a mail server and how to talk to it.
type SMTPConfig struct {
	Host           string
	Port           int
	User, Password string // empty: no authentication
	Security       Security
	// TLS overrides the defaults of TLS, for example to trust a private authority. May be nil.
	TLS *tls.Config
	// Timeout bounds one mail, from its first command to the answer after its end; 0 means a minute. Servers may take long
	// to check a mail, and one that isn't waited for leaves us with an unknown outcome, so be generous.
	Timeout time.Duration
}

// ParseSMTPURL reads the value of HANDOVER_SMTP_URL: smtp://user:password@host:587 for STARTTLS, smtps://… for TLS from
// the first byte, smtp://…?tls=none for no TLS at all. The ports are 587 and 465 unless given. An error names the
// variable and never holds the password.
func ParseSMTPURL(raw string) (SMTPConfig, error) {
	c, err := parseSMTPURL(raw)
	if err != nil {
		return SMTPConfig{}, fmt.Errorf("HANDOVER_SMTP_URL: %w", err)
	}
	return c, nil
}

func parseSMTPURL(raw string) (SMTPConfig, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The error of url.Parse quotes its input, password and all.
		return SMTPConfig{}, errors.New("is not a URL; write smtp://user:password@host:587, with special characters of the password percent-encoded")
	}
	c := SMTPConfig{Host: u.Hostname(), User: u.User.Username()}
	c.Password, _ = u.User.Password()
	switch u.Scheme {
	case "smtp":
		c.Port, c.Security = 587, StartTLS
	case "smtps":
		c.Port, c.Security = 465, ImplicitTLS
	default:
		return SMTPConfig{}, fmt.Errorf("has the scheme %q; use smtp:// (STARTTLS, or none with ?tls=none) or smtps:// (TLS)", u.Scheme)
	}
	if c.Host == "" {
		return SMTPConfig{}, errors.New("names no host; write smtp://host:587")
	}
	if strings.Contains(c.Host, ":") && (!strings.HasPrefix(u.Host, "[") || net.ParseIP(c.Host) == nil) {
		return SMTPConfig{}, fmt.Errorf("names the host %q; write smtp://host:587, an IPv6 address as smtp://[::1]:587", c.Host)
	}
	if u.Port() != "" {
		if c.Port, err = strconv.Atoi(u.Port()); err != nil || c.Port < 1 || c.Port > 65535 {
			return SMTPConfig{}, fmt.Errorf("has the port %q; it must be 1 to 65535", u.Port())
		}
	}
	if u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return SMTPConfig{}, errors.New("has a path; only a host, a port and ?tls=none may follow the scheme")
	}
	return c.withQuery(u.Query())
}

func (c SMTPConfig) withQuery(query url.Values) (SMTPConfig, error) {
	for name, values := range query {
		switch {
		case name != "tls":
			return SMTPConfig{}, fmt.Errorf("has the parameter %q; only tls is known", name)
		case len(values) != 1 || values[0] != "none":
			return SMTPConfig{}, errors.New("has an unknown value of tls; only tls=none is known, and TLS is required without it")
		case c.Security == ImplicitTLS:
			return SMTPConfig{}, errors.New("says smtps:// and tls=none; choose one")
		}
		c.Security = NoTLS
	}
	if c.User != "" && c.Password == "" {
		return SMTPConfig{}, errors.New("has a user without a password")
	}
	if c.User == "" && c.Password != "" {
		return SMTPConfig{}, errors.New("names no user before the colon; write smtp://user:…@host:587")
	}
	if c.Security == NoTLS && c.User != "" && !loopback(c.Host) {
		return SMTPConfig{}, errors.New("would send the password unencrypted; take tls=none away")
	}
	return c, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

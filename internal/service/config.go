package service

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sethvargo/go-envconfig"
	"go.uber.org/zap/zapcore"
)

// Config is the configuration of a process, checked.
type Config struct {
	DataDir      string // absolute
	HTTPAddr     string
	BaseURL      string // without a slash at its end
	DatabaseURL  string // empty: the private PostgreSQL
	NATSURL      string // empty: the embedded broker
	NATSAddr     string // of the embedded broker
	NATSReplicas int
	SMTPURL      string // empty: mails become files
	MailFrom     string
	NoticeWindow time.Duration
	Secret       string // empty: kept in the data directory
	LogLevel     zapcore.Level
	LogFormat    string // "auto", "json" or "console"
	TraceURL     string // empty: no traces
}

// environment is the configuration as it is written, and the only place that names the variables.
type environment struct {
	DataDir      string `env:"HANDOVER_DATA_DIR, default=.handover" about:"Directory for everything kept on this machine: the private PostgreSQL, the embedded broker, mails, run.json."`
	HTTPAddr     string `env:"HANDOVER_HTTP_ADDR, default=127.0.0.1:8080" about:"Where the API, /livez, /readyz and /metrics listen. Port 0 takes a free one. Parts without the API listen for the latter three only where this differs from the default."`
	BaseURL      string `env:"HANDOVER_BASE_URL" about:"How people reach this service, such as https://handover.example.com, for links in mails; empty: mails link to the tasks alone."`
	DatabaseURL  string `env:"HANDOVER_DATABASE_URL" secret:"url" about:"PostgreSQL 14 or later; empty: a private one, from the binaries on this machine."`
	NATSURL      string `env:"HANDOVER_NATS_URL" secret:"url" about:"NATS with JetStream, several servers with commas between; empty: one embedded in this process."`
	NATSAddr     string `env:"HANDOVER_NATS_ADDR, default=127.0.0.1:4222" about:"Where the embedded NATS listens, with credentials. Port 0 takes a free one."`
	NATSReplicas string `env:"HANDOVER_NATS_REPLICAS, default=1" about:"Copies of each stream in a NATS cluster: 1, 3 or 5."`
	SMTPURL      string `env:"HANDOVER_SMTP_URL" secret:"url" about:"Mail server: smtp://user:password@host:587 (STARTTLS required) or smtps://host:465 (TLS); with ?tls=none for a relay that has none; empty: mails are .eml files under <data dir>/mail."`
	MailFrom     string `env:"HANDOVER_MAIL_FROM, default=Handover <handover@localhost>" about:"Sender of the mails."`
	NoticeWindow string `env:"HANDOVER_NOTICE_WINDOW, default=15m" about:"How long moves to one person on one account are gathered into one mail."`
	Secret       string `env:"HANDOVER_SECRET" secret:"all" about:"Keys the Message-IDs of mails; the same in all notifiers. Empty: one is made and kept in <data dir>/secret."`
	LogLevel     string `env:"HANDOVER_LOG_LEVEL, default=info" about:"debug, info, warn or error."`
	LogFormat    string `env:"HANDOVER_LOG_FORMAT, default=auto" about:"json, console, or auto: console on a terminal, else json."`
	TraceURL     string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" about:"OTLP over HTTP for traces, such as http://localhost:4318; empty: none. The other OTEL_ variables apply too."`
	URL          string `env:"HANDOVER_URL" about:"For the other commands: the API to talk to; empty: that of the local run, by its run.json."`
	Token        string `env:"HANDOVER_TOKEN" secret:"all" about:"For the other commands: the token to use; empty: that of the local run."`
}

// Problem is what is wrong with one variable.
type Problem struct {
	Variable string `json:"variable"`
	Problem  string `json:"problem"`
}

// ConfigError holds every problem of a configuration.
type ConfigError struct{ Problems []Problem }

func (e *ConfigError) Error() string {
	var b strings.Builder
	b.WriteString("the configuration has problems; nothing was started:")
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s %s", p.Variable, p.Problem)
	}
	return b.String()
}

// DefaultHTTPAddr is the address of the API unless another is given.
const DefaultHTTPAddr = "127.0.0.1:8080"

// Needs are what a caller knows better than this package.
type Needs struct {
	// Servers is true where a private PostgreSQL and an embedded broker make no sense: both URLs are required.
	Servers bool
	// Checks are further checks of values that aren't empty, by variable. Their errors must not hold secrets.
	Checks map[string]func(value string) error
}

// Load reads the configuration from an environment (os.Environ). The error is a *ConfigError.
func Load(environ []string, needs Needs) (Config, error) {
	env, problems := read(environ)
	l := loader{problems: problems}
	c := Config{
		DataDir:      l.dir(env.DataDir),
		HTTPAddr:     l.address("HANDOVER_HTTP_ADDR", env.HTTPAddr),
		BaseURL:      l.webURL("HANDOVER_BASE_URL", env.BaseURL),
		DatabaseURL:  l.databaseURL(env.DatabaseURL),
		NATSURL:      l.natsURL(env.NATSURL),
		NATSAddr:     l.address("HANDOVER_NATS_ADDR", env.NATSAddr),
		NATSReplicas: l.replicas(env.NATSReplicas),
		SMTPURL:      env.SMTPURL,
		MailFrom:     env.MailFrom,
		NoticeWindow: l.window(env.NoticeWindow),
		Secret:       env.Secret,
		LogLevel:     l.level(env.LogLevel),
		LogFormat:    env.LogFormat,
		TraceURL:     l.webURL("OTEL_EXPORTER_OTLP_ENDPOINT", env.TraceURL),
	}
	if !slices.Contains([]string{"auto", "json", "console"}, c.LogFormat) {
		l.wrong("HANDOVER_LOG_FORMAT", "is %q; must be auto, json or console", c.LogFormat)
	}
	if needs.Servers && c.DatabaseURL == "" {
		l.wrong("HANDOVER_DATABASE_URL", "is required with --only: the parts must share a PostgreSQL, such as postgres://user:password@host:5432/handover")
	}
	if needs.Servers && c.NATSURL == "" {
		l.wrong("HANDOVER_NATS_URL", "is required with --only: the parts must share a broker, such as nats://user:password@host:4222")
	}
	for _, v := range variablesOf(env) {
		if check := needs.Checks[v.Name]; check != nil && v.value != "" {
			if err := check(v.value); err != nil {
				l.wrong(v.Name, "%s", strings.TrimPrefix(err.Error(), v.Name+": "))
			}
		}
	}
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return cmp.Compare(a.Variable, b.Variable) })
		return Config{}, &ConfigError{l.problems}
	}
	return c, nil
}

// read fills the environment. An empty variable is an absent one: that is what container files make of unset ones.
func read(environ []string) (environment, []Problem) {
	values := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = strings.TrimSpace(value)
	}
	var env environment
	lookup := envconfig.LookuperFunc(func(name string) (string, bool) {
		return values[name], values[name] != ""
	})
	if err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: &env, Lookuper: lookup}); err != nil {
		panic(err) // every field is a text: only a wrong tag can fail
	}
	var problems []Problem
	var names []string
	for _, v := range variablesOf(env) {
		names = append(names, v.Name)
	}
	for name := range values {
		if strings.HasPrefix(name, "HANDOVER_") && !strings.HasPrefix(name, "HANDOVER_TEST_") && !slices.Contains(names, name) {
			problems = append(problems, Problem{name, "is not a variable of Handover" + resembling(name, names) + "; handover run --print-config lists them"})
		}
	}
	return env, problems
}

type loader struct{ problems []Problem }

func (l *loader) wrong(variable, format string, args ...any) {
	l.problems = append(l.problems, Problem{variable, fmt.Sprintf(format, args...)})
}

func (l *loader) dir(s string) string {
	dir, err := filepath.Abs(s)
	if err != nil {
		l.wrong("HANDOVER_DATA_DIR", "is relative to a directory that is gone: %v", err)
	}
	return dir
}

func (l *loader) address(variable, s string) string {
	_, port, err := net.SplitHostPort(s)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		l.wrong(variable, "is %q; must be host:port, such as 127.0.0.1:8080, or :8080 for every interface", s)
	}
	return s
}

func (l *loader) webURL(variable, s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		l.wrong(variable, "must be a URL such as https://handover.example.com")
	}
	return strings.TrimRight(s, "/")
}

func (l *loader) databaseURL(s string) string {
	// Its errors can hold the password, so they aren't repeated.
	if _, err := pgx.ParseConfig(s); s != "" && err != nil {
		l.wrong("HANDOVER_DATABASE_URL", "can't be read; must be a PostgreSQL URL such as postgres://user:password@host:5432/handover (percent-encode special characters of the password)")
	}
	return s
}

func (l *loader) natsURL(s string) string {
	for _, server := range strings.Split(s, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if s != "" && (err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme)) {
			l.wrong("HANDOVER_NATS_URL", "can't be read; must be a URL such as nats://user:password@host:4222, several with commas between")
			break
		}
	}
	return s
}

func (l *loader) replicas(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 5 || n%2 == 0 {
		l.wrong("HANDOVER_NATS_REPLICAS", "is %q; must be 1, 3 or 5", s)
	}
	return n
}

func (l *loader) window(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > 24*time.Hour {
		l.wrong("HANDOVER_NOTICE_WINDOW", "is %q; must be a duration from 1s to 24h, such as 15m", s)
	}
	return d
}

func (l *loader) level(s string) zapcore.Level {
	level, err := zapcore.ParseLevel(s)
	if err != nil || level > zapcore.ErrorLevel {
		l.wrong("HANDOVER_LOG_LEVEL", "is %q; must be debug, info, warn or error", s)
	}
	return level
}

// Variable is one variable as it is documented.
type Variable struct {
	Name    string `json:"name"`
	Default string `json:"default"`
	Value   string `json:"value"` // secrets hidden
	Set     bool   `json:"set"`
	About   string `json:"about"`
	value   string
}

// Plain lists the variables with their values as they are, secrets too.
func Plain(environ []string) []Variable {
	env, _ := read(environ)
	out := variablesOf(env)
	for i := range out {
		out[i].Value = out[i].value
	}
	return out
}

// Variables documents the configuration, with what an environment says.
func Variables(environ []string) []Variable {
	env, _ := read(environ)
	return variablesOf(env)
}

func variablesOf(env environment) []Variable {
	v := reflect.ValueOf(env)
	out := make([]Variable, v.NumField())
	for i := range out {
		tag := v.Type().Field(i).Tag
		name, fallback, _ := strings.Cut(tag.Get("env"), ", default=")
		value := v.Field(i).String()
		out[i] = Variable{Name: name, Default: fallback, Set: value != fallback, Value: value, About: tag.Get("about"), value: value}
		if value != "" {
			out[i].Value = hide(value, tag.Get("secret"))
		}
	}
	return out
}

// hide takes what is secret out of a value: all of it, or the password of a URL.
func hide(value, secret string) string {
	switch secret {
	case "":
		return value
	case "url":
		if u, err := url.Parse(value); err == nil && u.Host != "" && !strings.Contains(value, ",") && u.RawQuery == "" {
			return u.Redacted()
		}
	}
	return "(set)"
}

// resembling is a hint at the variable that was probably meant.
func resembling(name string, names []string) string {
	best, least := "", 4
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// distance is how many letters must be put in, taken out or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		last := row[0]
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(b)]
}

package bus

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// ServerOptions of the embedded broker. Only Dir is required.
type ServerOptions struct {
	// Dir holds the streams and the password. One process at a time may hold it.
	Dir string
	// Addr is where it listens, "127.0.0.1:4222" by default. Port 0 takes a free one.
	Addr   string
	Logger *zap.Logger
	// SyncAlways has every write on disk before it is acknowledged. Without it a power failure takes back up to two
	// minutes of acknowledged writes; the end of the process alone takes back nothing.
	SyncAlways bool
	// MaxStore is how many bytes all streams together may have reserved; 16 GiB by default.
	MaxStore int64
}

const (
	defaultAddr     = "127.0.0.1:4222"
	defaultMaxStore = 16 << 30
	userName        = "handover"
	// readyWithin is for the broker to read back its streams.
	readyWithin = 2 * time.Minute
)

// Server is a broker in this process.
type Server struct {
	server   *server.Server
	dir      string
	addr     string
	password string
	lock     *flock.Flock
}

// StartServer starts the embedded broker and returns when it takes connections. It fails when another process holds the
// folder, when the address is taken, and when the streams on disk can't be read.
func StartServer(o ServerOptions) (_ *Server, err error) {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	host, port, err := splitAddr(cmp.Or(o.Addr, defaultAddr))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	// The broker itself would not notice a second one on its files, and both would corrupt them.
	s := &Server{dir: o.Dir, lock: flock.New(filepath.Join(o.Dir, "lock"))}
	if held, err := s.lock.TryLock(); err != nil {
		return nil, fmt.Errorf("broker: lock %s: %w", o.Dir, err)
	} else if !held {
		return nil, fmt.Errorf("broker: %s is in use by another process; stop that one, or choose another data directory", o.Dir)
	}
	defer func() {
		if err != nil {
			_ = s.lock.Unlock()
		}
	}()
	if s.password, err = password(filepath.Join(o.Dir, "password")); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	s.server, err = server.NewServer(&server.Options{
		ServerName: "handover", Host: host, Port: port,
		Username: userName, Password: s.password,
		JetStream: true, StoreDir: o.Dir, SyncAlways: o.SyncAlways,
		JetStreamMaxStore: cmp.Or(o.MaxStore, defaultMaxStore), JetStreamMaxMemory: 64 << 20,
		NoSigs: true, DisableJetStreamBanner: true,
	})
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	log := &serverLog{to: o.Logger.With(zap.String("part", "broker")).Sugar()}
	s.server.SetLoggerV2(log, false, false, false)
	s.server.Start()
	if err := awaitReady(s.server, log); err != nil {
		s.server.Shutdown()
		return nil, err
	}
	s.addr = s.server.Addr().String()
	return s, nil
}

func awaitReady(s *server.Server, log *serverLog) error {
	for deadline := time.Now().Add(readyWithin); !s.ReadyForConnections(100 * time.Millisecond); {
		if fatal := log.fatal.Load(); fatal != nil {
			return fmt.Errorf("broker: %s", *fatal)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("broker: not ready after %v", readyWithin)
		}
	}
	return nil
}

// Addr is where the server listens, with the port that it took.
func (s *Server) Addr() string { return s.addr }

// URL is how to connect, credentials included.
func (s *Server) URL() string {
	u := url.URL{Scheme: "nats", User: url.UserPassword(userName, s.password), Host: s.addr}
	return u.String()
}

// Dir is the folder that the server holds.
func (s *Server) Dir() string { return s.dir }

// Close ends the broker and waits for that. Its clients see a broken connection.
func (s *Server) Close() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	_ = s.lock.Unlock()
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("broker: the address %q is not host:port", addr)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// password reads the file, or makes it at the first start.
func password(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(text))) > 0 {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	made := rand.Text()
	return made, os.WriteFile(file, []byte(made+"\n"), 0o600)
}

// serverLog hands the broker's lines on. An embedded broker must not end the process, so what is fatal is kept for
// whoever is starting it.
type serverLog struct {
	to    *zap.SugaredLogger
	fatal atomic.Pointer[string]
}

func (l *serverLog) Noticef(format string, v ...any) { l.to.Debugf(format, v...) }
func (l *serverLog) Errorf(format string, v ...any)  { l.to.Errorf(format, v...) }
func (l *serverLog) Debugf(format string, v ...any)  { l.to.Debugf(format, v...) }
func (l *serverLog) Tracef(format string, v ...any)  { l.to.Debugf(format, v...) }

func (l *serverLog) Warnf(format string, v ...any) {
	// The password is random and in a file that only we can read.
	if strings.HasPrefix(format, "Plaintext passwords") {
		return
	}
	l.to.Warnf(format, v...)
}

func (l *serverLog) Fatalf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	l.fatal.Store(&line)
	l.to.Error(line)
}

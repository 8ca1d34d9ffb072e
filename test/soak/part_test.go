package soak_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// link is the way of one part to one server, which can be cut and slowed.
type link struct {
	mu    sync.Mutex
	proxy *toxiproxy.Proxy
}

var links = sync.OnceValue(func() *toxiproxy.ApiServer {
	zerolog.SetGlobalLevel(zerolog.Disabled) // parts of it have loggers of their own
	return toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
})

func newLink(t testing.TB, name, to string) *link {
	t.Helper()
	l := &link{proxy: toxiproxy.NewProxy(links(), name, "127.0.0.1:0", to)}
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Stop)
	return l
}

// through is a URL that goes over the link.
func (l *link) through(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.proxy.Listen
	return u.String()
}

// cut breaks every connection, and refuses new ones until it is mended.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proxy.Stop()
}

// spoil makes something of the connections, and of those to come: a toxic of toxiproxy, as JSON, without its name.
func (l *link) spoil(toxic string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
	return err
}

func (l *link) mend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proxy.Toxics.ResetToxics(context.Background())
	if l.proxy.Enabled {
		return nil
	}
	return l.proxy.Start()
}

// part is `handover run --only …`, in a process that is started again whenever it was killed.
type part struct {
	name, addr, log  string
	cmd              func() *exec.Cmd
	database, broker *link
	// steady ones are killed only at the beginning, so that their memory can be watched.
	steady bool

	mu    sync.Mutex
	p     *process
	alone []string // how it ended by itself, which it must not
}

// newPart describes a part; start starts it.
func newPart(t testing.TB, dir, name, only string, env []string) *part {
	t.Helper()
	p := &part{name: name, addr: freeAddr(t), log: filepath.Join(dir, name+".log")}
	data := filepath.Join(dir, name)
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	p.cmd = func() *exec.Cmd {
		cmd := exec.Command(built, "run", "--only", only)
		cmd.Dir = data
		cmd.Env = append(os.Environ(), "HANDOVER_DATA_DIR="+data, "HANDOVER_HTTP_ADDR="+p.addr, "HANDOVER_SECRET=the same in all notifiers")
		cmd.Env = append(cmd.Env, env...)
		return cmd
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.p != nil {
			p.p.end(syscall.SIGKILL, time.Minute)
		}
	})
	return p
}

func (p *part) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	running, err := launch(p.cmd(), p.log)
	if err != nil {
		return err
	}
	p.p = running
	go func() {
		<-running.done
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.p == running { // nobody else has ended it
			p.alone = append(p.alone, fmt.Sprintf("%s ended by itself (%v):\n%s", p.name, running.err, tail(p.log)))
		}
	}()
	return nil
}

func (p *part) take() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.p
	p.p = nil
	return taken
}

// kill ends it without a chance to do anything.
func (p *part) kill() {
	if running := p.take(); running != nil {
		running.end(syscall.SIGKILL, time.Minute)
	}
}

// stop ends it in order.
func (p *part) stop() error {
	if running := p.take(); running != nil && !running.end(syscall.SIGTERM, time.Minute) {
		return fmt.Errorf("%s does not stop within a minute:\n%s", p.name, tail(p.log))
	}
	return nil
}

// still has it stand still for as long as paused runs: its machine sleeps, or its disk.
func (p *part) still(pause func()) {
	p.mu.Lock()
	running := p.p
	p.mu.Unlock()
	if running == nil {
		return
	}
	running.signal(syscall.SIGSTOP)
	pause()
	running.signal(syscall.SIGCONT)
}

var probes = &http.Client{Timeout: 3 * time.Second}

// ready is nil when the part says that all it needs is there.
func (p *part) ready() error {
	res, err := probes.Get("http://" + p.addr + "/readyz")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return nil
	}
	b, _ := io.ReadAll(res.Body)
	return fmt.Errorf("%s: %s", res.Status, b)
}

// size is what a part takes, as Prometheus sees it.
type size struct {
	Goroutines float64
	Bytes      float64 // resident
}

var metricLine = regexp.MustCompile(`(?m)^(go_goroutines|process_resident_memory_bytes) (\S+)$`)

func (p *part) size() (s size, err error) {
	res, err := probes.Get("http://" + p.addr + "/metrics")
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return s, err
	}
	for _, m := range metricLine.FindAllSubmatch(b, -1) {
		n, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return s, err
		}
		if string(m[1]) == "go_goroutines" {
			s.Goroutines = n
		} else {
			s.Bytes = n
		}
	}
	return s, nil
}

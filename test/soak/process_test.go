package soak_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that was started. It can be killed.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of its end
}

// launches are started by one thread that lives as long as we do: Linux takes the end of the thread that started a child
// for the end of its parent.
var launches = sync.OnceValue(func() chan<- func() {
	todo := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range todo {
			start()
		}
	}()
	return todo
})

// launch starts cmd, with what it says appended to a file.
func launch(cmd *exec.Cmd, logFile string) (*process, error) {
	return launchAs(cmd, logFile, dieWithUs())
}

func launchAs(cmd *exec.Cmd, logFile string, attributes *syscall.SysProcAttr) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, attributes
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	launches() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end sends a signal and waits for the end; what doesn't heed it within the patience is killed, and false.
func (p *process) end(signal syscall.Signal, patience time.Duration) bool {
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
		return true
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		return false
	}
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// freeAddr is an address of this machine that nobody listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// tail is the end of a file, for a failing test.
func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}

// await waits until cond is true. Unlike testkit.Eventually it is patient, and stops when the test has failed elsewhere.
func await(t testing.TB, patience time.Duration, what string, cond func() (bool, string)) {
	t.Helper()
	why := ""
	if !poll(patience, func() (ok bool) { ok, why = cond(); return ok }) {
		t.Fatalf("after %v still not so: %s: %s", patience, what, why)
	}
}

// poll asks until cond is true, or patience is at its end.
func poll(patience time.Duration, cond func() bool) bool {
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

// panics are the places of a log where a process broke down.
func panics(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "DATA RACE") || strings.Contains(line, "panicked") {
			out = append(out, fmt.Sprintf("%s: %s", file, strings.TrimSpace(line)))
		}
	}
	return out
}

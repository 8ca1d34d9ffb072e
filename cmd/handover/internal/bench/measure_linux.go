package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ownCPU is what this process has used so far.
func ownCPU() (time.Duration, bool) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}

// tick is how /proc counts time: in hundredths of a second, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// postgresCPU is what the server has used so far that backend belongs to: its processes, and those of its that have ended.
func postgresCPU(backend int) (time.Duration, bool) {
	own, ok := readStat(strconv.Itoa(backend))
	if !ok {
		return 0, false
	}
	postmaster := own.parent
	total, ok := readStat(strconv.Itoa(postmaster))
	if !ok {
		return 0, false
	}
	ticks := total.own + total.ended
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if s, ok := readStat(filepath.Base(p)); ok && s.parent == postmaster {
			ticks += s.own
		}
	}
	return time.Duration(ticks) * tick, true
}

type stat struct {
	parent     int
	own, ended int64 // ticks of the process, and of its children that have ended
}

func readStat(pid string) (stat, bool) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return stat{}, false
	}
	// The name stands in parentheses and may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return stat{}, false
	}
	n := func(i int) int64 {
		v, _ := strconv.ParseInt(fields[i], 10, 64)
		return v
	}
	return stat{parent: int(n(1)), own: n(11) + n(12), ended: n(13) + n(14)}, true
}

// resetPeak makes the peak of the resident memory what it is now.
func resetPeak() bool { return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) == nil }

// peakRSS is the most memory that was resident since resetPeak, in bytes.
func peakRSS() (int64, bool) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	_, rest, found := strings.Cut(string(text), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); !found || err != nil {
		return 0, false
	}
	return kilobytes << 10, true
}

// hardware says what this machine is.
func hardware() (cpu string, memory int64) {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	text, _ = os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(text), "MemTotal:")
	var kilobytes int64
	_, _ = fmt.Sscan(rest, &kilobytes)
	return cpu, kilobytes << 10
}

// flushDisks has everything written that other programs and we have left to be written.
func flushDisks() { syscall.Sync() }

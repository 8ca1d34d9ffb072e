package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// spent is what has been used since some fixed moment. Where /proc isn't, PostgreSQL's processor time and the memory are 0.
type spent struct {
	wal               int64   // bytes
	service, postgres float64 // seconds of processor time; service is this process, the broker included
}

func (b *bench) spent(ctx context.Context) spent {
	var s spent
	_ = b.admin.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn`).Scan(&s.wal)
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		s.service = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	}
	s.postgres = postgresCPU(filepath.Join(b.dir, "postgres", "data", "postmaster.pid"))
	return s
}

// postgresCPU adds up the postmaster's processes, those that have ended included.
func postgresCPU(pidFile string) float64 {
	text, _ := os.ReadFile(pidFile)
	postmaster, _, _ := strings.Cut(string(text), "\n")
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	ticks := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		// The name, in brackets, may hold anything; behind it stand the state, the parent, and from the 12th on
		// utime, stime, cutime and cstime.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		pid := filepath.Base(filepath.Dir(file))
		if len(fields) < 15 || (pid != postmaster && fields[1] != postmaster) {
			continue
		}
		for _, f := range fields[11:15] {
			n, _ := strconv.Atoi(f)
			ticks += n
		}
	}
	return float64(ticks) / 100 // USER_HZ, the same on every Linux
}

// resetPeak makes peakRSS begin anew.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peakRSS is the most memory this process has held, in bytes.
func peakRSS() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	line, _, _ := strings.Cut(rest, "\n")
	kB, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(line), " kB"), 10, 64)
	return kB << 10
}

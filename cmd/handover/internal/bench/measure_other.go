//go:build !linux

package bench

import "time"

// Elsewhere these can't be told without help; results don't have them then.

func ownCPU() (time.Duration, bool)         { return 0, false }
func postgresCPU(int) (time.Duration, bool) { return 0, false }
func resetPeak() bool                       { return false }
func peakRSS() (int64, bool)                { return 0, false }
func hardware() (string, int64)             { return "", 0 }
func flushDisks()                           {}

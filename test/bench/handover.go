package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

const handoverName = "handover"

// runHandover has the program measure itself, on its own database and broker in dir.
func runHandover(ctx context.Context, program, dir, mix string, n int) (report, error) {
	cmd := exec.CommandContext(ctx, program, "bench", "--mix", mix, "--changes", strconv.Itoa(n), "--json",
		"--dir", filepath.Join(dir, "handover"))
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	// It fails when an answer was wrong, too, but then it has printed what it found.
	r, unread := readHandover(said)
	if unread != nil {
		return r, fmt.Errorf("%s: %w", cmd, cmp.Or(err, unread))
	}
	return r, nil
}

func readHandover(said []byte) (r report, err error) {
	if err := json.Unmarshal(said, &r); err != nil {
		return r, err
	}
	if len(r.Results) == 0 {
		return r, errors.New("no results")
	}
	for i := range r.Results {
		r.Results[i].Contender = cmp.Or(r.Results[i].Contender, handoverName)
	}
	return r, nil
}

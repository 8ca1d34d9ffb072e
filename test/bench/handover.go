package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

const handoverName = "handover"

// handoverMixes are those that handover bench knows: it has no use for an ordered one.
var handoverMixes = []string{"unique", "hot"}

// runHandover has the program measure itself, on its own database and broker in dir.
func runHandover(ctx context.Context, program, dir, mix string, n int) ([]result, error) {
	cmd := exec.CommandContext(ctx, program, "bench", "--mix", mix, "--changes", strconv.Itoa(n), "--json", "--dir", filepath.Join(dir, "handover"))
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd, err)
	}
	var out struct {
		Results []result `json:"results"`
	}
	if err := json.Unmarshal(said, &out); err != nil {
		return nil, fmt.Errorf("what %s printed: %w", cmd, err)
	}
	for i := range out.Results {
		if out.Results[i].Contender == "" {
			out.Results[i].Contender = handoverName
		}
	}
	return out.Results, nil
}

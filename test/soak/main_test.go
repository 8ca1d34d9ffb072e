package soak_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// built is the path of the program, built once.
var built string

func TestMain(m *testing.M) {
	if dir := os.Getenv(brokerDir); dir != "" {
		os.Exit(beBroker(dir))
	}
	if description := os.Getenv(clusterNode); description != "" {
		os.Exit(beNode(description))
	}
	dir, err := os.MkdirTemp("", "handover-soak-built-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = filepath.Join(dir, "handover")
	if out, err := exec.Command("go", "build", "-o", built, "handover.io/cmd/handover").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

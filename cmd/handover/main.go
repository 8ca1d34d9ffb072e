// Command handover moves open tasks when an account changes hands: the service itself, and the tools around it.
//
// This package only joins: use cases don't know each other, the broker or the HTTP API, and what connects them stands
// here. Each subcommand is one file.
//
// Its exit codes are 0 when all was done, 1 when something failed or only a part was done, and 2 when the command line or
// the configuration is wrong; then nothing was done.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/cmd/handover/internal/target"
	"handover.io/internal/service"
)

func main() {
	os.Exit(Main(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// app is what all commands share.
type app struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
	target         target.Flags
}

// Main runs one command line and returns its exit code.
func Main(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "handover",
		Short: "Move open tasks when an account changes hands",
		Long: `Handover moves the open tasks that somebody leaves behind when an account changes hands,
by your policy, once, and tells the new owner in one e-mail.

  handover run        starts everything on this machine, with a demo company to try it on
  handover status     says how it is doing

Commands find a local run by its run.json in the data directory (--data-dir, HANDOVER_DATA_DIR,
or .handover). To reach another one: --url and --token, or HANDOVER_URL and HANDOVER_TOKEN; for
the commands that need them, HANDOVER_DATABASE_URL and HANDOVER_NATS_URL.

Exit codes: 0 done, 1 failed or done in part, 2 wrong usage or configuration.`,
		Version: version(), SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print JSON, for programs")
	flags.StringVar(&a.target.DataDir, "data-dir", "", "data directory of the local run to use")
	root.AddCommand(
		a.runCommand(),
		a.migrateCommand(),
		a.tokenCommand(),
		a.importCommand(),
		a.publishCommand(),
		a.statusCommand(),
		a.verifyCommand(),
		a.replayCommand(),
		a.deadLettersCommand(),
		a.noticesCommand(),
		a.benchCommand(),
	)
	err := root.ExecuteContext(ctx)
	var failed *failedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		if failed.err != nil {
			fmt.Fprintln(stderr, "Error:", safe.Lines(failed.err.Error()))
		}
		return 1
	}
	fmt.Fprintln(stderr, "Error:", safe.Lines(err.Error()))
	fmt.Fprintln(stderr, "See handover --help, or --help of the command.")
	return 2
}

// failedError is a command that was understood and could not be done, or not wholly. Every other error is a wrong command
// line or a wrong configuration. Without an err everything was said already.
type failedError struct{ err error }

func (e *failedError) Error() string { return fmt.Sprint(e.err) }

// failed marks an error as one of doing, not of understanding.
func failed(err error) error {
	var config *service.ConfigError
	if err == nil || errors.As(err, &config) {
		return err
	}
	return &failedError{err}
}

// find is where the command goes.
func (a *app) find(needs ...func(target.Target) error) (target.Target, error) {
	t, err := target.Find(a.target, a.environ)
	if err != nil {
		return t, err
	}
	for _, need := range needs {
		if err := need(t); err != nil {
			return t, err
		}
	}
	return t, nil
}

func (a *app) apiFlags(c *cobra.Command) {
	c.Flags().StringVar(&a.target.URL, "url", "", "API to talk to; with --token, instead of the local run")
	c.Flags().StringVar(&a.target.Token, "token", "", "token of a user with the right to do this")
}

func (a *app) tenantFlag(c *cobra.Command) {
	c.PersistentFlags().StringVar(&a.target.Tenant, "tenant", "", "tenant; that of the local run unless given")
}

// print writes v as JSON, or lets text write it for people; neither can control a terminal.
func (a *app) print(v any, text func(io.Writer)) error {
	if !a.json {
		text(safe.Writer{Writer: a.stdout})
		return nil
	}
	var said bytes.Buffer
	out := json.NewEncoder(&said)
	out.SetIndent("", "  ")
	err := out.Encode(v)
	if err == nil {
		_, err = a.stdout.Write(safe.JSON(said.Bytes()))
	}
	return err
}

// version is that of the module, else the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"

	"handover.io/cmd/handover/internal/demo"
	"handover.io/internal/service"
)

// announce says what runs where. A run on its own database also writes the run file, and says what to try.
func (p *process) announce(ctx context.Context, out io.Writer, asJSON bool, took time.Duration) error {
	if !p.local() {
		p.log.Info("running", zap.Strings("parts", p.parts()), zap.String("http", p.url), zap.Duration("ready_after", took))
		return nil
	}
	token, err := p.ensureToken(ctx)
	if err != nil {
		return fmt.Errorf("token of the local run: %w", err)
	}
	run := service.RunFile{HTTPURL: p.url, NATSURL: p.natsURL, DatabaseURL: p.databaseURL, Token: token, Tenant: demo.Tenant}
	if err := service.WriteRunFile(p.config.DataDir, run); err != nil {
		return fmt.Errorf("run file: %w", err)
	}
	p.log.Info("running", zap.String("http", p.url), zap.Duration("ready_after", took))
	file := service.RunFilePath(p.config.DataDir)
	if asJSON {
		return json.NewEncoder(out).Encode(map[string]any{"http_url": p.url, "run_file": file, "mail_dir": p.mailDir(), "ready_seconds": took.Seconds()})
	}
	mails := "mails  by the configured mail server"
	if p.config.SMTPURL == "" {
		mails = "mails  " + p.mailDir() + ", " + p.config.NoticeWindow.String() + " after the first move of an account's tasks"
	}
	_, err = fmt.Fprintf(out, tryThis, took.Seconds(), p.url, file, mails,
		shellQuote(file), p.url, demo.FirstAccount, demo.FirstOwner, p.url, demo.FirstAccount, p.url, shellQuote(p.mailDir()))
	return err
}

const tryThis = `
Handover runs (ready after %.1f s). Ctrl-C stops it.

  API    %s, described by /openapi.json
  access %s holds addresses and an administrator's token
  %s

Try it, in another terminal:

  TOKEN=$(sed -n 's/.*"token": "\(.*\)".*/\1/p' %s)

  # An account changes hands. What moves is told at once; the tasks have moved a moment later.
  curl -s -X PUT %s/v1/accounts/%s/roles/success_manager -H "Authorization: Bearer $TOKEN" \
       -H 'Content-Type: application/json' -d '{"owner_id": "%s", "reason": "profile"}'

  # Who had the account and its tasks, when and why; and what you are told of it.
  curl -s %s/v1/accounts/%s/history -H "Authorization: Bearer $TOKEN"
  curl -s %s/v1/notifications -H "Authorization: Bearer $TOKEN"

  # The new owner's mail, when its window has closed.
  ls -l %s

`

// shellQuote makes one word of a path.
func shellQuote(s string) string {
	if strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

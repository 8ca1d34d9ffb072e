package verify

import (
	"cmp"
	"fmt"
	"strings"

	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// command is a command line that can be given as it is.
func command(args ...string) string {
	out := []string{"handover"}
	for _, a := range args {
		out = append(out, quoted(a))
	}
	return strings.Join(out, " ")
}

// quoted is a word for a shell: ids are other systems' own texts.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@,=+%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// fix is the command that mends a kind.
func (v *verifier) fix(kind Kind, more ...string) string {
	args := []string{"verify", "--fix", "--apply", "--only", string(kind)}
	if len(more) == 0 && v.Tenant != "" {
		args = append(args, "--tenant", v.Tenant)
	}
	return command(append(args, more...)...)
}

func (v *verifier) fixAccount(a roster.Account) string {
	return command("verify", "--fix", "--apply", "--tenant", a.TenantID, "--account", a.AccountID)
}

func replayOf(from, to uint64, more ...string) string {
	return command(append(append([]string{"replay", "--from-seq", fmt.Sprint(from), "--to-seq", fmt.Sprint(to)}, more...), "--apply")...)
}

// remedy is the command for all that was found of a kind.
func (v *verifier) remedy(r *Result) string {
	switch r.Kind {
	case Owner, Assignee, Holding, Head, Revision, LeftBehind, Lost, Unannounced, Untold:
		if v.Account != "" {
			return v.fixAccount(account(v.Tenant, v.Account))
		}
		return v.fix(r.Kind)
	case MissingChange, Ahead:
		var from, to uint64
		for _, f := range r.Findings {
			if f.Stream != event.StreamRoleChanges {
				continue
			}
			from, to = min(cmp.Or(from, f.Sequence), f.Sequence), max(to, f.Sequence)
		}
		if to == 0 {
			break
		}
		if r.Count > int64(len(r.Findings)) {
			to = v.streams[event.StreamRoleChanges].LastSeq
		}
		if v.results[Ahead] != nil { // people were told, and this database doesn't know
			return replayOf(from, to, "--no-mail")
		}
		return replayOf(from, to)
	case DeadLetters:
		if len(r.Findings) > 1 {
			args := []string{"dead-letters", "list"}
			if v.Tenant != "" {
				args = append(args, "--tenant", v.Tenant)
			}
			return command(args...)
		}
	}
	return r.Findings[0].Remedy
}

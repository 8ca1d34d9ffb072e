package standing

import (
	"strings"
	"testing"
	"time"
)

// A stranger's bytes must not steer the terminal of who looks.
func TestStrangersTextIsVisible(t *testing.T) {
	t.Parallel()
	const nasty = "\x1b[2Jx\u202ey\u009b31m"
	s := Standing{At: time.Now(), Database: Server{Answers: true}, Broker: Server{Answers: true},
		DeadLetters: []DeadLetters{{TenantID: "acme", Consumer: "reassigner", Reason: "invalid", Count: 1, OldestAt: time.Now(), Newest: "invalid: " + nasty}},
		Notices:     Notices{Ambiguous: 1, Undecided: []Notice{{ID: 1, TenantID: "acme", RecipientID: nasty, AccountID: nasty, Subject: nasty}}},
	}
	s.Attention = s.judge()
	var out strings.Builder
	s.Print(&out)
	if strings.ContainsAny(out.String(), "\x1b\u202e\u009b") || strings.Count(out.String(), `\x1b[2Jx\u202ey`) != 4 {
		t.Errorf("printed:\n%q", out.String())
	}
}

package journal

import (
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"handover.io/pkg/event"
)

// The headers of a dead letter: what is kept can be kept, keeping it twice changes nothing and neither does a retry, so
// that the letter is the same one; and what we announce about it nobody else can say.
func FuzzDeadLetterHeaders(f *testing.F) {
	f.Add("Content-Type", "application/json", "Nats-Msg-Id", "7", "invalid: \r\nbody", []byte("{}"))
	f.Add("Handover-Retry", "1", "handover-retry", "2", "\x00\u009b", []byte(nil))
	f.Add("handover-dead-reason", "forged", "Handover-Dead-Detail", "forged", "\xff", []byte("\xff"))
	f.Add("x\x00", "a", "x\uFFFD", "b", "d", []byte("x"))
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2, detail string, body []byte) {
		l := DeadLetter{Consumer: "reassigner", Reason: event.ReasonInvalid, Detail: detail, Message: event.Message{
			Subject: event.SubjectRoleChanged("acme"), Header: map[string][]string{name1: {value1, value2}, name2: {value2}}, Body: body,
		}}
		kept := original(l.Message.Header)
		for name, values := range kept {
			for _, s := range append(values, name) {
				if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
					t.Fatalf("kept %q", s)
				}
			}
			if IsRetry(event.Message{Header: kept}) {
				t.Fatalf("kept %q", kept)
			}
		}
		digest := l.Digest()
		announced := l.entry("acme", "id")
		for name, want := range map[string]string{HeaderReason: l.Reason, HeaderDetail: oneLine(detail), HeaderSubject: l.Message.Subject} {
			for header, values := range announced.Header {
				if strings.EqualFold(header, name) && (len(values) != 1 || values[0] != want) {
					t.Fatalf("announced with %s: %q", header, values)
				}
			}
			if strings.ContainsAny(want, "\r\n\x00") || len([]rune(want)) > 500 {
				t.Fatalf("%s is %q", name, want)
			}
		}
		again := l
		again.Message.Header = maps.Clone(kept)
		if again.Digest() != digest {
			t.Fatal("kept, it is another letter")
		}
		again.Message.Header[HeaderRetry] = []string{"7"}
		if !IsRetry(again.Message) || again.Digest() != digest {
			t.Fatal("retried, it is another letter")
		}
		again.Message.Body = append([]byte("x"), body...)
		if again.Digest() == digest {
			t.Fatal("another body is the same letter")
		}
	})
}

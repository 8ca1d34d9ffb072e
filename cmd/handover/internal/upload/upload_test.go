package upload_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/cmd/handover/internal/tabular"
	"handover.io/cmd/handover/internal/upload"
	"handover.io/pkg/event"
)

// notebook is a reporter that remembers.
type notebook struct {
	refused []int
	rows    []int
	waiting int
}

func (n *notebook) Waiting(error, time.Duration) { n.waiting++ }

func (n *notebook) Refused(p tabular.Problem) { n.refused = append(n.refused, p.Line) }
func (n *notebook) Progress(s upload.Summary) { n.rows = append(n.rows, s.Rows) }
func numbered(n int) upload.Next {
	line := 0
	return func() (*upload.Row, error) {
		line++
		switch {
		case line > n:
			return nil, io.EOF
		case line%10 == 3:
			return nil, &tabular.Problem{Line: line, Problem: "wrong"}
		case line%10 == 4:
			return nil, nil
		}
		return &upload.Row{Line: line, Body: []byte("x")}, nil
	}
}

func TestEveryRowIsCountedOnce(t *testing.T) {
	t.Parallel()
	var to notebook
	sum, err := upload.Run(t.Context(), numbered(25), func(_ context.Context, rows []upload.Row) (upload.Answer, error) {
		return upload.Answer{Created: len(rows) - 1, Refused: []tabular.Problem{{Line: rows[0].Line}}}, nil
	}, &to, upload.Options{Rows: 10, Bytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	want := upload.Summary{Rows: 25, Created: 16, Failed: 6, LeftOut: 3}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]int{11, 22, 25}, to.rows); diff != "" {
		t.Errorf("progress (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]int{1, 3, 12, 13, 23, 25}, to.refused); diff != "" {
		t.Errorf("refused (-want +got)\n%s", diff)
	}
}

func TestAServiceThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(30 * time.Second)
		send := func(_ context.Context, rows []upload.Row) (upload.Answer, error) {
			if time.Now().Before(back) {
				return upload.Answer{}, errors.New("connection refused")
			}
			return upload.Answer{Created: len(rows)}, nil
		}
		to := &notebook{}
		sum, err := upload.Run(t.Context(), numbered(2), send, to, upload.Options{Rows: 10, Bytes: 10, Patience: time.Minute})
		if err != nil || sum.Created != 2 || to.waiting != 1 {
			t.Errorf("got %+v, %v; told of the wait %d times", sum, err, to.waiting)
		}
		back = time.Now().Add(time.Hour)
		_, err = upload.Run(t.Context(), numbered(2), send, &notebook{}, upload.Options{Rows: 10, Bytes: 10, Patience: time.Minute})
		if err == nil || err.Error() != "lines 1 to 2 were not taken: connection refused" {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatNoRepeatCanMendEndsAtOnce(t *testing.T) {
	t.Parallel()
	tries := 0
	_, err := upload.Run(t.Context(), numbered(2), func(context.Context, []upload.Row) (upload.Answer, error) {
		tries++
		return upload.Answer{}, &upload.Fatal{Err: errors.New("the token is not valid")}
	}, &notebook{}, upload.Options{Rows: 10, Bytes: 10, Patience: time.Hour})
	if err == nil || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestTheSameRowIsTheSameEvent(t *testing.T) {
	t.Parallel()
	p := upload.Publisher{Tenant: "demo", Source: "urn:x", Reason: event.ByAPI, InitiatedBy: "me"}
	row := func() map[string]any {
		return map[string]any{"time": "2026-01-31T09:00:00Z", "account_id": "a", "role": "r", "new_owner_id": nil}
	}
	first, err := p.Change(1, row())
	if err != nil {
		t.Fatal(err)
	}
	second, _ := p.Change(7, row())
	other := row()
	other["new_owner_id"] = "b"
	third, _ := p.Change(1, other)
	if first != second || first.ID == third.ID || first.NewOwnerID != "" || first.Reason != "api" {
		t.Errorf("%+v\n%+v\n%+v", first, second, third)
	}
	m, err := first.Message(event.SubjectRoleBulk("demo"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := event.DecodeAccountRoleChanged(m); err != nil || again != first {
		t.Errorf("as a message: %+v, %v", again, err)
	}
}

func TestRowsThatAreNoChangesSayWhy(t *testing.T) {
	t.Parallel()
	p := upload.Publisher{Tenant: "demo", Source: "urn:x", Reason: event.ByAPI, InitiatedBy: "me"}
	for want, row := range map[string]map[string]any{
		"line 3: new_owner_id: is required; empty means nobody": {"time": "2026-01-31T09:00:00Z"},
		"line 3: time: is required: when the role changed":      {"new_owner_id": "b"},
		"line 3: time: must be RFC 3339":                        {"new_owner_id": "b", "time": "now"},
		"line 3: account_id: is empty":                          {"new_owner_id": "b", "time": "2026-01-31T09:00:00Z", "role": "r"},
		"line 3 (e): type: ":                                    {"specversion": "1.0", "id": "e", "source": "s", "type": "other"},
	} {
		if _, err := p.Change(3, row); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestProgressInALogFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := upload.NewProgress(&out, false, "tasks", 100, nil)
		p.Progress(upload.Summary{Rows: 10})
		p.Refused(tabular.Problem{Line: 7, ID: "t-7", Field: "due_at", Problem: "is late"})
		<-time.After(10 * time.Second)
		p.Progress(upload.Summary{Rows: 1000, Failed: 1})
		want := "line 7 (t-7): due_at: is late\n1000 rows so far, 1 of them with problems (100 rows a second)\n"
		if out.String() != want || p.Done() != 10*time.Second {
			t.Errorf("got %q", out.String())
		}
	})
}

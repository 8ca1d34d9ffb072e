package notify

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"mime/quotedprintable"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

var (
	noon  = time.Date(2026, 9, 14, 12, 0, 0, 0, time.UTC)
	pen   = writer{from: netmail.Address{Name: "Handover", Address: "handover@example.com"}, baseURL: "https://handover.example.com", secret: []byte("secret")}
	toAda = envelope{
		notice: 42, opened: noon.Add(-15 * time.Minute), scope: scope{"demo", "u-ada", "acme"},
		to: netmail.Address{Name: "Ada Lovelace", Address: "ada@example.com"}, zone: "Europe/Berlin",
	}
)

// moved is a task of acme that went to Ada and is hers now.
func moved(task, title string, due time.Duration) told {
	t := told{
		move: &move{
			scope: scope{"demo", "u-ada", "acme"}, kind: received, accountID: "acme", from: "u-maya", movedBy: "u-noa",
			reason: event.ByProfile, role: "success_manager", movedAt: noon.Add(-10 * time.Minute),
		},
		task: task, revision: 1,
		title: title, open: true, holder: "u-ada", accountName: "Acme Corporation", fromName: "Maya Cohen", byName: "Noa Levi",
		roleName: "Success Manager", url: "https://crm.example.com/tasks/" + task, priority: "High",
	}
	if due != 0 {
		at := noon.Add(due)
		t.due = &at
	}
	return t
}

func with(t told, change func(*told)) told {
	change(&t)
	return t
}

func parse(t testing.TB, raw []byte) (headers netmail.Header, text, html string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("Content-Type %q: %v", m.Header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, into := range []*string{&text, &html} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		*into = strings.ReplaceAll(string(content), "\r\n", "\n")
	}
	if _, err := parts.NextRawPart(); err != io.EOF {
		t.Fatalf("a third part: %v", err)
	}
	return m.Header, text, html
}

func mailOf(t *testing.T, e envelope, items ...told) (letter, string, string) {
	t.Helper()
	d, _ := compose(noon, items)
	l, err := pen.write(noon, e, d)
	if err != nil {
		t.Fatal(err)
	}
	_, text, html := parse(t, l.mime)
	return l, text, html
}

func accountMail() []told {
	items := []told{
		moved("t-1", "Renew the contract before the quarter ends", -50*time.Hour),
		moved("t-2", "Prepare the business review", 26*time.Hour),
		with(moved("t-3", "Answer the security questionnaire", 8*24*time.Hour), func(t *told) { t.priority, t.url = "", "" }),
		with(moved("t-4", "Introduce yourself to the new champion", 0), func(t *told) {
			t.reason, t.role, t.from, t.fromName, t.priority = event.ByUserDisabled, "", "u-tom", "Tom Ng", "Low"
		}),
		with(moved("t-5", "Check adoption of the new module", 0), func(t *told) {
			t.revision, t.kind, t.toldBefore, t.holder, t.holderName = 7, takenBack, true, "u-lee", "Lee Park"
		}),
	}
	return items
}

func TestAMailTellsWhoMovedWhatAndWhy(t *testing.T) {
	t.Parallel()
	l, text, html := mailOf(t, toAda, accountMail()...)
	testkit.Golden(t, "account.eml", l.mime)
	testkit.Golden(t, "account.txt", []byte(text))
	testkit.Golden(t, "account.html", []byte(html))
}

func summaryMail() (envelope, []told) {
	e := toAda
	e.summary = true
	items := accountMail()
	for a := range 12 {
		for n := range 1 + a*5 {
			id := fmt.Sprintf("t-%d-%d", a, n)
			items = append(items, with(moved(id, "Follow up on case "+id, time.Duration(n-3)*24*time.Hour), func(t *told) {
				t.accountID, t.accountName = fmt.Sprintf("a/%02d", a), fmt.Sprintf("Customer %02d GmbH", a)
				t.reason = event.BySegment
			}))
		}
	}
	return e, items
}

func TestASummaryShowsAHundredTasksAndCountsTheRest(t *testing.T) {
	t.Parallel()
	e, items := summaryMail()
	l, text, html := mailOf(t, e, items...)
	testkit.Golden(t, "summary.txt", []byte(text))
	testkit.Golden(t, "summary.html", []byte(html))
	if l.subject != "Tasks moved to you" {
		t.Errorf("subject %q", l.subject)
	}
	if n := strings.Count(html, `<td class="task">`) + strings.Count(html, "(now with"); n != tasksPerMail {
		t.Errorf("%d tasks shown, want %d", n, tasksPerMail)
	}
}

func TestAMailWithOnlyTakenBackTasksSaysSo(t *testing.T) {
	t.Parallel()
	back := accountMail()[4]
	l, text, html := mailOf(t, toAda, back)
	testkit.Golden(t, "taken_back.txt", []byte(text))
	testkit.Golden(t, "taken_back.html", []byte(html))
	if l.subject != "Tasks no longer yours: Acme Corporation" {
		t.Errorf("subject %q", l.subject)
	}
	// Of several accounts, and several tasks of one.
	summary := toAda
	summary.summary = true
	l, text, html = mailOf(t, summary, back, with(accountMail()[4], func(t *told) { t.task, t.title, t.holder = "t-6", "Send the new price list", "" }),
		with(accountMail()[4], func(t *told) {
			t.task, t.title, t.accountID, t.accountName = "t-7", "Call about the renewal", "globex", "Globex"
		}))
	testkit.Golden(t, "taken_back_summary.txt", []byte(text))
	if l.subject != "Tasks no longer yours" {
		t.Errorf("subject %q", l.subject)
	}
	for _, part := range []string{l.subject, text, html} {
		if strings.Contains(part, "moved to you") {
			t.Errorf("nothing was moved to anybody, but the mail says so:\n%s", part)
		}
	}
}

func TestHostileTextsStayTexts(t *testing.T) {
	t.Parallel()
	const evil = "a\r\nBcc: victim@example.com\r\n\r\n<script>alert(1)</script> \u202egnp.exe\u2069 \U0001F468‍\U0001F4BB \"'&{{.}} \x00\xff"
	e := toAda
	e.to.Name = evil
	l, text, html := mailOf(t, e, with(moved("t-1", evil, 0), func(t *told) {
		t.accountName, t.fromName, t.byName, t.priority, t.url = evil, evil, evil, evil, "javascript:alert(1)"
	}))
	headers, _, _ := parse(t, l.mime)
	if headers.Get("Bcc") != "" || strings.Contains(text, "\nBcc:") {
		t.Error("a header was injected")
	}
	for _, bad := range []string{"<script", "javascript:", "\u202e", "\u2069", "\x00"} {
		if strings.Contains(html, bad) {
			t.Errorf("HTML contains %q", bad)
		}
	}
	for _, bad := range []string{"\u202e", "\u2069", "\x00"} {
		if strings.Contains(text, bad) {
			t.Errorf("text contains %q", bad)
		}
	}
	if !strings.Contains(html, "\U0001F468‍\U0001F4BB") || !strings.Contains(html, "&lt;script&gt;") {
		t.Error("the harmless part of the title is gone")
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(headers.Get("Subject"))
	if err != nil || !strings.Contains(subject, "\U0001F468‍\U0001F4BB") || strings.ContainsAny(subject, "\u202e\u2069\r\n\x00") {
		t.Errorf("subject %q: %v", subject, err)
	}
	for line := range strings.SplitSeq(string(l.mime), "\r\n") {
		if len(line) > 200 || !isASCII(line) || strings.ContainsAny(line, "\r\n") {
			t.Errorf("line %q", line)
		}
	}
}

func TestAMailNeverGrowsPastWhatGmailShows(t *testing.T) {
	t.Parallel()
	title := strings.Repeat(`"&<>'`, 100)
	for _, accounts := range []int{1, 3, 400} {
		e := toAda
		e.summary = accounts > 1
		var items []told
		for a := range accounts {
			for n := range 80 {
				items = append(items, with(moved(fmt.Sprintf("t-%d-%d", a, n), title, time.Hour), func(t *told) {
					t.accountID = strings.Repeat("😀", 120) + fmt.Sprint(a)
					t.accountName, t.fromName, t.byName, t.priority = title, title, title+fmt.Sprint(n), title
					t.url = "https://crm.example.com/" + strings.Repeat("&", 1900)
				}))
			}
		}
		_, text, html := mailOf(t, e, items...)
		if len(html) > maxHTML {
			t.Errorf("%d accounts: %d bytes of HTML", accounts, len(html))
		}
		if !strings.Contains(text, "more task") {
			t.Errorf("%d accounts: the rest isn't counted", accounts)
		}
	}
}

func TestDueDatesAreInTheRecipientsZone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		zone string
		at   time.Time
		want string
	}{
		{"Europe/Berlin", time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC), "Sun 29 Mar 2026, 01:30"},
		{"Europe/Berlin", time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC), "Sun 29 Mar 2026, 03:30"},
		{"America/New_York", time.Date(2026, 11, 1, 5, 30, 0, 0, time.UTC), "Sun 1 Nov 2026, 01:30"},
		{"America/New_York", time.Date(2026, 11, 1, 6, 30, 0, 0, time.UTC), "Sun 1 Nov 2026, 01:30"},
		{"Asia/Kathmandu", time.Date(2026, 9, 13, 18, 15, 0, 0, time.UTC), "Mon 14 Sep 2026"},
		{"", time.Date(2026, 9, 14, 0, 0, 0, 0, time.UTC), "Mon 14 Sep 2026"},
		{"Mars/Olympus", time.Date(2026, 9, 14, 9, 5, 0, 0, time.UTC), "Mon 14 Sep 2026, 09:05"},
		{"Local", time.Date(2026, 9, 14, 9, 5, 0, 0, time.UTC), "Mon 14 Sep 2026, 09:05"},
	} {
		if got := day(c.at, zone(c.zone)); got != c.want {
			t.Errorf("%s in %q is %q, want %q", c.at, c.zone, got, c.want)
		}
	}
}

func TestMailsOfOneAccountAreOneThread(t *testing.T) {
	t.Parallel()
	first, _, _ := mailOf(t, toAda, moved("t-1", "One", 0))
	later := toAda
	later.notice, later.opened = 43, noon
	second, _, _ := mailOf(t, later, moved("t-2", "Two", 0))
	other := toAda
	other.notice, other.scope.account = 44, "globex"
	third, _, _ := mailOf(t, other, with(moved("t-3", "Three", 0), func(t *told) { t.accountID, t.accountName = "globex", "[Globex]" }))
	one, _, _ := parse(t, first.mime)
	two, _, _ := parse(t, second.mime)
	three, _, _ := parse(t, third.mime)
	if one.Get("References") != two.Get("References") || one.Get("Subject") != two.Get("Subject") {
		t.Error("mails of one account don't form a thread")
	}
	if one.Get("Message-ID") == two.Get("Message-ID") {
		t.Error("two notices share a Message-ID")
	}
	if one.Get("References") == three.Get("References") || one.Get("Subject") == three.Get("Subject") {
		t.Error("mails of two accounts form one thread")
	}
	summary := toAda
	summary.summary = true
	fourth, _, _ := mailOf(t, summary, moved("t-1", "One", 0))
	four, _, _ := parse(t, fourth.mime)
	if one.Get("References") == four.Get("References") {
		t.Error("a summary is in the thread of an account")
	}
}

func TestListUnsubscribeIsThereWhenThereIsAPlaceForIt(t *testing.T) {
	t.Parallel()
	d, _ := compose(noon, []told{moved("t-1", "One", 0)})
	w := pen
	w.unsubscribe = func(tenant, user string) string { return "https://handover.example.com/u?t=" + tenant + "&u=" + user }
	l, err := w.write(noon, toAda, d)
	if err != nil {
		t.Fatal(err)
	}
	h, text, _ := parse(t, l.mime)
	if h.Get("List-Unsubscribe") != "<https://handover.example.com/u?t=demo&u=u-ada>" || h.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" {
		t.Errorf("headers %v", h)
	}
	if !strings.Contains(text, "Stop these e-mails: https://handover.example.com/u?t=demo&u=u-ada") {
		t.Error("the text doesn't name it")
	}
}

func TestHeaderLinesAreFolded(t *testing.T) {
	t.Parallel()
	long := "Subject: " + strings.Repeat("words: and more ", 30)
	folded := fold(strings.TrimSpace(long))
	for line := range strings.SplitSeq(folded, "\r\n") {
		if len(line) > maxLine+1 || strings.TrimSpace(line) == "" {
			t.Errorf("line %q", line)
		}
	}
	if strings.ReplaceAll(folded, "\r\n", "") != strings.TrimSpace(long) {
		t.Error("folding changed the value")
	}
	if one := "X: " + strings.Repeat("x", 200); fold(one) != one {
		t.Error("a word was broken")
	}
}

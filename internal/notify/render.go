package notify

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	htmltemplate "html/template"
	netmail "net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"
	_ "time/tzdata" // recipients live in zones that a bare container doesn't know
)

//go:embed templates
var templates embed.FS

var (
	htmlMail = htmltemplate.Must(htmltemplate.ParseFS(templates, "templates/mail.html"))
	textMail = template.Must(template.ParseFS(templates, "templates/mail.txt"))
)

const (
	// maxHTML is what Gmail shows without clipping (102 KB), with room for what servers on the way add.
	maxHTML         = 90 << 10
	tasksPerAccount = 25
	tasksPerMail    = 100
	// linesPerMail is how many accounts that don't fit are still listed, with their counts.
	linesPerMail = 50
	maxReasons   = 5
	maxURL       = 2000
	maxSubject   = 120 // characters of the account's name
)

// writer writes mails; what it writes depends on its fields and arguments alone.
type writer struct {
	from        netmail.Address
	baseURL     string
	secret      []byte
	unsubscribe func(tenant, user string) string
}

// envelope is what a mail needs to know beside its content.
type envelope struct {
	notice  int64
	resends int // how often a person had it sent again
	opened  time.Time
	closed  time.Time
	scope   scope
	summary bool
	to      netmail.Address
	zone    string
}

type letter struct {
	messageID, subject string
	mime               []byte
}

// write renders the mail as of now. It shows fewer tasks when the HTML would be larger than maxHTML; the counts stay true.
func (w writer) write(now time.Time, e envelope, d digest) (letter, error) {
	subject := "Tasks moved to you"
	if d.received == 0 {
		subject = "Tasks no longer yours"
	}
	if !e.summary && len(d.accounts) == 1 {
		subject += ": " + cut(clean(d.accounts[0].name), maxSubject)
	}
	for most := tasksPerMail; ; most = most * 2 / 3 {
		v := w.view(now, e, d, subject, most)
		html, text, err := v.render()
		if err != nil {
			return letter{}, err
		}
		if len(html) <= maxHTML {
			out := letter{messageID: w.messageID(e), subject: subject}
			out.mime = w.headers(now, e, out).compile("=_"+w.digest("boundary", out.messageID)[:24], text, html)
			return out, nil
		}
		if most == 0 {
			return letter{}, fmt.Errorf("%d bytes of HTML without a single task", len(html))
		}
	}
}

// view is what the templates see: texts that are cut and clean, and numbers that are true.
type view struct {
	Subject, Recipient, Headline, Preheader string
	Late                                    string // that it is, and since when
	OnlyTakenBack                           bool   // so the headline says what a heading would
	Zone                                    string
	Several                                 bool // accounts: each has its heading
	Accounts                                []accountView
	Others                                  []otherView // accounts that didn't fit, with their counts
	MoreAccounts, MoreTasks                 int         // in accounts not even listed
	ConsoleURL, UnsubscribeURL              string
}

type accountView struct {
	Name, URL      string
	Reasons        []string
	Tasks          []taskView
	HTMLRows       htmltemplate.HTML // of the tasks
	TextRows       string
	MoreTasks      string
	TakenBack      []taskView
	MoreTakenBack  string
	TakenBackCount string
	Those          string // the ones taken back, as the subject of a sentence with its verb
}

type taskView struct {
	Title, URL, Due, Priority, From, Now string
	Overdue                              bool
}

type otherView struct{ Name, URL, Count string }

func (v view) render() (html, text string, err error) {
	out := pages.Get().(*bytes.Buffer)
	defer pages.Put(out)
	out.Reset()
	if err := htmlMail.Execute(out, v); err != nil {
		return "", "", err
	}
	html = out.String()
	out.Reset()
	if err := textMail.Execute(out, v); err != nil {
		return "", "", err
	}
	return html, out.String(), nil
}

// pages are buffers in which mails were rendered.
var pages = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (w writer) view(now time.Time, e envelope, d digest, subject string, most int) view {
	in := zone(e.zone)
	v := view{
		Subject: subject, Recipient: name(e.to.Name, ""), Zone: in.String(), Headline: headline(d), Preheader: preheader(d),
		ConsoleURL: w.baseURL, Several: len(d.accounts) > 1, Late: late(now, e.closed, in), OnlyTakenBack: d.received == 0,
	}
	if w.unsubscribe != nil {
		v.UnsubscribeURL = w.unsubscribe(e.scope.tenant, e.scope.recipient)
	}
	left := most
	for i, part := range d.accounts {
		if i > 0 && left == 0 || len(v.Accounts) >= linesPerMail {
			w.others(&v, d.accounts[i:], most)
			break
		}
		shown := w.account(now, in, part, min(left, tasksPerAccount))
		left -= len(shown.Tasks) + len(shown.TakenBack)
		v.Accounts = append(v.Accounts, shown)
	}
	return v
}

// others lists the accounts for which no task is shown, fewer of them the tighter the space.
func (w writer) others(v *view, rest []accountPart, most int) {
	for i, part := range rest {
		n := len(part.received) + len(part.takenBack)
		if i < linesPerMail*most/tasksPerMail {
			v.Others = append(v.Others, otherView{Name: name(part.name, part.id), URL: w.accountURL(part.id), Count: count(n, "task")})
			continue
		}
		v.MoreAccounts++
		v.MoreTasks += n
	}
}

func (w writer) account(now time.Time, in *time.Location, part accountPart, most int) accountView {
	v := accountView{Name: name(part.name, part.id), URL: w.accountURL(part.id), Reasons: reasons(part.received)}
	shown := min(len(part.received), most)
	for _, t := range part.received[:shown] {
		v.Tasks = append(v.Tasks, w.task(now, in, t))
	}
	v.HTMLRows, v.TextRows = htmlRows(v.Tasks), textRows(v.Tasks)
	if more := len(part.received) - shown; more > 0 {
		v.MoreTasks = moreTasks(more, shown)
	}
	if len(part.takenBack) > 0 {
		v.TakenBackCount, v.Those = count(len(part.takenBack), "task"), verb(len(part.takenBack), "this was", "these were")
	}
	back := min(len(part.takenBack), most-shown)
	for _, t := range part.takenBack[:back] {
		v.TakenBack = append(v.TakenBack, w.task(now, in, t))
	}
	if more := len(part.takenBack) - back; more > 0 {
		v.MoreTakenBack = moreTasks(more, back)
	}
	return v
}

func moreTasks(more, shown int) string {
	if shown == 0 {
		return count(more, "task")
	}
	return count(more, "more task")
}

func (w writer) task(now time.Time, in *time.Location, t told) taskView {
	v := taskView{
		Title: cut(clean(cmp.Or(t.title, t.task)), maxTitle), URL: webURL(t.url), Priority: cut(clean(t.priority), 30),
		From: "nobody", Now: "nobody",
	}
	if t.from != "" {
		v.From = name(t.fromName, t.from)
	}
	if t.holder != "" {
		v.Now = name(t.holderName, t.holder)
	}
	if v.URL == "" {
		v.URL = w.accountURL(t.accountID)
	}
	if t.due != nil {
		v.Due, v.Overdue = day(*t.due, in), t.due.Before(now)
	}
	return v
}

// reasons says who moved how many tasks, and why; the most first.
func reasons(tasks []told) []string {
	type cause struct{ by, why string }
	counts := make(map[cause]int)
	var order []cause
	var last [7]string
	var c cause
	for i, t := range tasks {
		// Most tasks were moved by what moved the one before.
		if facts := [7]string{t.byName, t.movedBy, t.reason, t.roleName, t.role, t.fromName, t.from}; i == 0 || facts != last {
			last, c = facts, cause{name(t.byName, t.movedBy), why(t)}
		}
		if counts[c] == 0 {
			order = append(order, c)
		}
		counts[c]++
	}
	slices.SortStableFunc(order, func(a, b cause) int { return cmp.Compare(counts[b], counts[a]) })
	var out []string
	for i, c := range order {
		if i == maxReasons {
			out = append(out, "and "+count(len(order)-i, "other change"))
			break
		}
		line := c.by + " moved " + count(counts[c], "task") + " to you"
		if c.why != "" {
			line += ": " + c.why
		}
		out = append(out, line+".")
	}
	return out
}

func headline(d digest) string {
	where := ""
	switch {
	case len(d.accounts) == 1:
		where = " on " + name(d.accounts[0].name, d.accounts[0].id)
	case len(d.accounts) > 1:
		where = " on " + count(len(d.accounts), "account")
	}
	if d.received == 0 {
		return count(d.tasks, "task") + where + verb(d.tasks, " is", " are") + " no longer yours"
	}
	return count(d.received, "task") + where + verb(d.received, " is", " are") + " now yours"
}

// preheader is what mail programs show beside the subject.
func preheader(d digest) string {
	out := headline(d)
	if d.overdue > 0 {
		out += ", " + grouped(d.overdue) + " overdue"
	}
	if back := d.tasks - d.received; back > 0 && d.received > 0 {
		out += ", " + grouped(back) + " no longer yours"
	}
	return out
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// accountURL is the account's page in the console, or "" without a console.
func (w writer) accountURL(id string) string {
	if w.baseURL == "" || id == "" {
		return ""
	}
	return w.baseURL + "/accounts/" + url.PathEscape(id)
}

// webURL is s if a mail may link to it.
func webURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return ""
	}
	return u.String()
}

func (w writer) digest(parts ...string) string {
	mac := hmac.New(sha256.New, w.secret)
	for _, p := range parts {
		mac.Write(strconv.AppendInt(nil, int64(len(p)), 10))
		mac.Write([]byte(":" + p))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

func (w writer) domain() string {
	return cmp.Or(w.from.Address[strings.LastIndexByte(w.from.Address, '@')+1:], "localhost")
}

// messageID is the same for every try of a notice, until a person has it sent again. The digest keeps it unique when a database is made anew.
func (w writer) messageID(e envelope) string {
	id := strconv.FormatInt(e.notice, 10)
	first := "<n." + id + "." + w.digest("notice", id, e.scope.tenant, strconv.FormatInt(e.opened.UnixMicro(), 10))[:16] + "@" + w.domain() + ">"
	if e.resends > 0 {
		return again(first, e.resends)
	}
	return first
}

func (w writer) headers(now time.Time, e envelope, l letter) header {
	account := e.scope.account
	if e.summary {
		account = ""
	}
	// Mail programs make a thread of mails with one subject that name one root; no mail with that id exists, so nothing
	// depends on a server that rewrites ids.
	root := "<acct." + w.digest("thread", e.scope.tenant, e.scope.recipient, account)[:32] + "@" + w.domain() + ">"
	h := header{
		{"From", w.from.String()},
		{"To", e.to.String()},
		{"Subject", encoded(l.subject)},
		{"Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700")},
		{"Message-ID", l.messageID},
		{"In-Reply-To", root},
		{"References", root},
		{"Auto-Submitted", "auto-generated"},
		{"X-Auto-Response-Suppress", "OOF, AutoReply, RN, NRN, DR"},
		{"List-Id", "<task-moves." + e.scope.tenant + "." + w.domain() + ">"},
	}
	if w.unsubscribe == nil {
		return h
	}
	if u := w.unsubscribe(e.scope.tenant, e.scope.recipient); u != "" {
		h = append(h, [2]string{"List-Unsubscribe", "<" + clean(u) + ">"})
		if strings.HasPrefix(u, "https:") {
			h = append(h, [2]string{"List-Unsubscribe-Post", "List-Unsubscribe=One-Click"})
		}
	}
	return h
}

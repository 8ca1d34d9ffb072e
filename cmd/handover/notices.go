package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/notify"
	"handover.io/pkg/event"
)

func (a *app) noticesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "notices",
		Short: "Look at mails; send them again, hold them, let them go",
		Long: `A notice is one mail window: opened by the first move, closed a quarter of an hour later, then a mail.

  open           gathers moves until it closes
  closed         due, or waiting for its next try
  sending        a notifier is at it
  sent           the mail server has taken it
  merged         told by the mail of another notice, when one person had more than ten
  suppressed     no mail: nothing was left to tell, or the person takes none
  undeliverable  the mail server, or the address, refuses it for good
  ambiguous      it may have been sent, nobody knows; never sent again by itself

After an incident: list says what needs a person, and show ID what one tells and what the mail server
answered. Where it may have arrived, ask the person: settle when it did, resend when it didn't.

While mails are on hold none goes out, from any process. That happens by itself when the database turns
out to be older than its streams, which is after a restore: mails that it takes for unsent may have been
sent. Then release says what would go, and --sent-before holds back what may have gone before.

resend, settle, hold and release only show what they would do, unless --apply is given, and then write
down who did it. All of it is about the database: HANDOVER_DATABASE_URL, or the local run's.`,
	}
	c.PersistentFlags().StringVar(&a.target.Tenant, "tenant", "", "only those of this tenant")
	c.AddCommand(a.noticesList(), a.noticesShow(), a.noticesResend(), a.noticesSettle(), a.noticesHold(), a.noticesRelease())
	return c
}

var noticeStates = []string{
	notify.Open, notify.Closed, notify.Sending, notify.Sent, notify.Merged, notify.Suppressed, notify.Undeliverable, notify.Ambiguous,
}

// picked is how notices are picked on a command line.
type picked struct {
	states             []string
	recipient, account string
	since, until       moment
	limit              int
}

func (f *picked) flags(c *cobra.Command, states ...string) {
	c.Flags().StringSliceVar(&f.states, "state", nil, "only those in these states: "+strings.Join(states, ", "))
	c.Flags().StringVar(&f.recipient, "recipient", "", "only those of this user")
	c.Flags().StringVar(&f.account, "account", "", "only those of this account")
	momentFlag(c, &f.since, "since", "only those whose window closed since then: an age such as 2h, or a time such as 2026-01-31T09:00:00Z")
	momentFlag(c, &f.until, "until", "only those whose window closed before then")
}

func (f *picked) search(tenant string, args []string, states []string) (notify.Search, error) {
	s := notify.Search{
		States: f.states, TenantID: tenant, RecipientID: f.recipient, Account: f.account,
		ClosedSince: f.since.Time, ClosedBefore: f.until.Time, Limit: f.limit,
	}
	for _, arg := range args {
		id, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || id < 1 {
			return s, fmt.Errorf("ID: %q is no number; notices list shows the ids", arg)
		}
		if !slices.Contains(s.IDs, id) {
			s.IDs = append(s.IDs, id)
		}
	}
	if tenant != "" && !event.ValidTenantID(tenant) {
		return s, fmt.Errorf("--tenant: %q can't be a tenant", tenant)
	}
	for _, state := range f.states {
		if !slices.Contains(states, state) {
			return s, fmt.Errorf("--state: %q isn't one of %s", state, strings.Join(states, ", "))
		}
	}
	if f.limit < 0 {
		return s, errors.New("--limit: can't be negative")
	}
	return s, inOrder(f.since, f.until, "since", "until")
}

// narrow tells whether any filter is given.
func (f *picked) narrow(tenant string) bool {
	return tenant != "" || len(f.states) > 0 || f.recipient != "" || f.account != "" || !f.since.IsZero() || !f.until.IsZero()
}

// onNotices opens the database and hands do what reads and decides about notices.
func (a *app) onNotices(ctx context.Context, account string, do func(s *servers, n *notify.Notifier) error) error {
	s, err := a.open(ctx, "notices", false)
	if err != nil {
		return err
	}
	defer s.close()
	if err := nameOf(a.target.Tenant, account).check(ctx, s.pool, nil); err != nil {
		return err
	}
	err = do(s, notify.New(s.pool, notify.Config{}))
	var said *failedError
	if errors.As(err, &said) {
		return err
	}
	return failed(err)
}

// noticeJSON is a notice for programs.
type noticeJSON struct {
	ID          int64      `json:"notice_id"`
	TenantID    string     `json:"tenant_id"`
	RecipientID string     `json:"recipient_id"`
	AccountID   string     `json:"account_id"` // empty: all accounts of the recipient
	State       string     `json:"state"`
	OpenedAt    time.Time  `json:"opened_at"`
	CloseAt     time.Time  `json:"close_at"`
	FinishedAt  *time.Time `json:"finished_at"`
	NextTryAt   *time.Time `json:"next_try_at"`
	Subject     string     `json:"subject"`
	Tasks       int        `json:"tasks"`
	Problem     string     `json:"problem"`
	MergedInto  *int64     `json:"merged_into"`
}

func noticesJSON(found []notify.Notice) []noticeJSON {
	out := make([]noticeJSON, len(found))
	for i, n := range found {
		out[i] = noticeJSON(n)
	}
	return out
}

func (a *app) noticesList() *cobra.Command {
	var f picked
	all := false
	c := &cobra.Command{
		Use:   "list",
		Short: "List notices; unless told otherwise those that need a person",
		Long: `Lists notices, the latest first. Without filters those that need a person: ambiguous, undeliverable, and
those whose mail should have gone five minutes ago; and says so when mails are on hold.

Exit code 1 when, without filters, anything is listed.

` + momentHelp,
		Example: `  handover notices list
  handover notices list --state ambiguous --since 6h
  handover notices list --recipient grace.kim --all
  handover notices list --json | jq '.items[].notice_id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			search, err := f.search(a.target.Tenant, nil, noticeStates)
			if err != nil {
				return err
			}
			search.Attention = !all && len(f.states) == 0
			return a.onNotices(cmd.Context(), f.account, func(_ *servers, n *notify.Notifier) error {
				hold, err := n.Held(cmd.Context())
				if err != nil {
					return err
				}
				found, err := n.Find(cmd.Context(), search)
				if err != nil {
					return err
				}
				if err := a.print(map[string]any{"items": noticesJSON(found), "hold": hold}, func(w io.Writer) {
					sayHold(w, hold)
					noticeTable(w, found)
					if len(found) == 0 {
						fmt.Fprintln(w, map[bool]string{true: "No mail needs a person.", false: "None."}[search.Attention])
					}
				}); err != nil {
					return err
				}
				if search.Attention && (len(found) > 0 || hold != nil) {
					return &failedError{}
				}
				return nil
			})
		},
	}
	f.flags(c, noticeStates...)
	c.Flags().BoolVar(&all, "all", false, "those in every state, also those that need nobody")
	c.Flags().IntVar(&f.limit, "limit", 100, "how many at most; 0: all")
	return c
}

func sayHold(w io.Writer, hold *notify.MailHold) {
	if hold != nil {
		fmt.Fprintf(w, "Mails are on hold since %s, by %s: %s.\nhandover notices release says what would go out.\n\n",
			minute(&hold.Since), safe.Text(hold.By), safe.Brief(hold.Reason))
	}
}

func noticeTable(w io.Writer, found []notify.Notice) {
	if len(found) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tTENANT\tRECIPIENT\tACCOUNT\tSTATE\tTASKS\tCLOSED\tPROBLEM")
	for _, n := range found {
		account := n.AccountID
		if account == "" {
			account = "(all)"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", n.ID, n.TenantID, safe.Text(n.RecipientID), safe.Text(account), n.State, n.Tasks,
			minute(&n.CloseAt), safe.Text(n.Problem))
	}
	_ = table.Flush()
}

func (a *app) noticesShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a notice: what it gathered, every attempt and its answer, and the mail",
		Example: `  handover notices show 4711
  handover notices show 4711 --json | jq -r .text`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			search, err := new(picked).search("", args, nil)
			if err != nil {
				return err
			}
			return a.onNotices(cmd.Context(), "", func(_ *servers, n *notify.Notifier) error {
				d, err := n.Show(cmd.Context(), search.IDs[0])
				if errors.Is(err, notify.ErrNoNotice) {
					err = fmt.Errorf("%w; handover notices list --all shows the ids", err)
				}
				if err != nil {
					return fmt.Errorf("ID %d: %w", search.IDs[0], err)
				}
				return a.print(struct {
					noticeJSON
					To       string           `json:"to"`
					Tries    int              `json:"tries"`
					Resends  int              `json:"resends"`
					Attempts []notify.Attempt `json:"attempts"`
					Moves    []notify.Told    `json:"moves"`
					Header   string           `json:"header"`
					Text     string           `json:"text"`
				}{noticeJSON(d.Notice), d.To, d.Tries, d.Resends, d.Attempts, d.Moves, d.Header, d.Text}, func(w io.Writer) { showNotice(w, d) })
			})
		},
	}
}

func showNotice(w io.Writer, d notify.Detail) {
	noticeTable(w, []notify.Notice{d.Notice})
	fmt.Fprintf(w, "\nIt opened %s and closed %s", second(d.OpenedAt), second(d.CloseAt))
	if d.FinishedAt != nil {
		fmt.Fprintf(w, "; finished %s", second(*d.FinishedAt))
	}
	fmt.Fprintln(w, ".")
	switch {
	case d.MergedInto != nil:
		fmt.Fprintf(w, "It is told by the mail of notice %d.\n", *d.MergedInto)
	case d.NextTryAt != nil:
		fmt.Fprintf(w, "Next try %s.\n", second(*d.NextTryAt))
	}
	if d.Resends > 0 {
		fmt.Fprintf(w, "It was sent again by a person %d times.\n", d.Resends)
	}
	if len(d.Attempts) == 0 {
		fmt.Fprintln(w, "\nNo attempt to send it.")
	} else {
		fmt.Fprintln(w, "\nAttempts:")
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, t := range d.Attempts {
			end, outcome, code := "no end known", t.Outcome, ""
			if t.EndedAt != nil {
				end = "after " + t.EndedAt.Sub(t.StartedAt).Round(time.Millisecond).String()
			}
			if outcome == "" {
				outcome = "under way, or its end is unknown"
			}
			if t.Code != nil {
				code = strconv.Itoa(*t.Code)
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\n", second(t.StartedAt), end, outcome, code, safe.Text(t.Response))
		}
		_ = table.Flush()
	}
	fmt.Fprintln(w, "\nIt gathered:")
	for _, m := range d.Moves {
		from := m.FromID
		if from == "" {
			from = "nobody"
		}
		fmt.Fprintf(w, "  %s  %s on %s, %d from %s, by %s (%s): %s\n", second(m.MovedAt), m.Kind, safe.Text(m.AccountID), len(m.Tasks), safe.Text(from),
			safe.Text(m.MovedBy), safe.Text(m.Reason), safe.Text(strings.Join(m.Tasks[:min(len(m.Tasks), 10)], ", ")))
	}
	if d.Header == "" {
		fmt.Fprintln(w, "\nThe mail isn't written, or isn't kept any more.")
	} else {
		fmt.Fprintf(w, "\nThe mail, to %s:\n\n%s\n\n%s\n", safe.Text(d.To), safe.Lines(d.Header), safe.Lines(d.Text))
	}
	if next := whatNext(d.Notice); next != "" {
		fmt.Fprintln(w, next)
	}
}

// whatNext is what a person can do about a notice.
func whatNext(n notify.Notice) string {
	switch n.State {
	case notify.Ambiguous:
		return fmt.Sprintf("Ask %s. If it arrived: handover notices settle %d --apply. If not: handover notices resend %d --apply.", safe.Text(n.RecipientID), n.ID, n.ID)
	case notify.Undeliverable:
		return fmt.Sprintf("Put right what the problem says, then: handover notices resend %d --apply. It is written anew, as things are then.", n.ID)
	}
	return ""
}

func second(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

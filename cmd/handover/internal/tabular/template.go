package tabular

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// functions are what a derived field may use beside what text/template has.
var functions = template.FuncMap{
	"slug":      slug,
	"lower":     strings.ToLower,
	"upper":     strings.ToUpper,
	"trim":      strings.TrimSpace,
	"hasPrefix": func(prefix, s string) bool { return strings.HasPrefix(s, prefix) },
	"replace":   func(old, replacement, s string) string { return strings.ReplaceAll(s, old, replacement) },
	"date":      date,
	"addDays":   addDays,
}

// FunctionsHelp describes them, for a command's help.
const FunctionsHelp = `slug, lower, upper, trim, hasPrefix PREFIX TEXT, replace OLD NEW TEXT,
addDays NUMBER DATE, date LAYOUT TEXT (a Go layout, such as "02.01.2006")`

// slug is a text as it may stand in an id or a mail address: "Zoë O'Hara" is "zoe-o-hara".
func slug(s string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(strings.ToLower(s)) {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(r)
		case unicode.Is(unicode.Mn, r): // the accent that NFKD took off its letter
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.TrimSuffix(b.String(), "-")
}

var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly}

// parseTime reads a time; one without a zone is UTC.
func parseTime(s string) (time.Time, error) {
	for _, layout := range layouts {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("is %q; must be a date as 2026-01-31 or 2026-01-31T15:04:05Z (other layouts: --derive with date)", s)
}

func date(layout, s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", nil
	}
	t, err := time.Parse(layout, strings.TrimSpace(s))
	if err != nil {
		return "", fmt.Errorf("%q is not a date of the layout %q", s, layout)
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

// addDays of no date is no date, so that an optional column stays optional.
func addDays(days int, s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", nil
	}
	t, err := parseTime(s)
	if err != nil {
		return "", err
	}
	return t.UTC().AddDate(0, 0, days).Format(time.RFC3339Nano), nil
}

func parseTemplate(name, text string) (*template.Template, error) {
	return template.New(name).Option("missingkey=error").Funcs(functions).Parse(text)
}

// columnsOf lists the columns that a template reads.
func columnsOf(t *template.Template) []string {
	var columns []string
	var walk func(parse.Node)
	branch := func(n *parse.BranchNode) {
		walk(n.Pipe)
		walk(n.List)
		if n.ElseList != nil {
			walk(n.ElseList)
		}
	}
	walk = func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ListNode:
			for _, c := range n.Nodes {
				walk(c)
			}
		case *parse.ActionNode:
			walk(n.Pipe)
		case *parse.IfNode:
			branch(&n.BranchNode)
		case *parse.PipeNode:
			for _, c := range n.Cmds {
				walk(c)
			}
		case *parse.CommandNode:
			for _, c := range n.Args {
				walk(c)
			}
		case *parse.FieldNode:
			if !slices.Contains(columns, n.Ident[0]) {
				columns = append(columns, n.Ident[0])
			}
		}
	}
	walk(t.Root)
	return columns
}

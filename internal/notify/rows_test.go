package notify

import (
	"bytes"
	htmltemplate "html/template"
	"strings"
	"testing"
	"text/template"

	"pgregory.net/rapid"
)

// The rows as templates: what rows.go writes, in the language that escapes by itself.
var (
	htmlRow = htmltemplate.Must(htmltemplate.New("").Parse(`{{range .}}
<tr valign="top"><td class="task">{{if .URL}}<a href="{{.URL}}" style="color:#0b57c4"><bdi>{{.Title}}</bdi></a>{{else}}<bdi>{{.Title}}</bdi>{{end}}</td>
<td>{{if .Overdue}}<b class="late" style="color:#b3261e">Overdue</b><br>{{.Due}}{{else if .Due}}{{.Due}}{{else}}No due date{{end}}</td>
<td>{{if .Priority}}<i class="label">Priority: </i><bdi>{{.Priority}}</bdi>{{end}}</td>
<td class="last"><i class="label">From </i><bdi>{{.From}}</bdi></td></tr>{{end}}`))
	textRow = template.Must(template.New("").Parse(`{{range .}}

* {{.Title}}
  {{if .Overdue}}OVERDUE since {{.Due}}{{else if .Due}}Due {{.Due}}{{else}}No due date{{end}}{{if .Priority}} | Priority: {{.Priority}}{{end}} | From {{.From}}
{{- if .URL}}
  {{.URL}}{{end}}{{end}}`))
)

// templateRows are rows as templates write them.
func templateRows(tasks []taskView) (html, text string, err error) {
	var out bytes.Buffer
	if err := htmlRow.Execute(&out, tasks); err != nil {
		return "", "", err
	}
	html = out.String()
	out.Reset()
	if err := textRow.Execute(&out, tasks); err != nil {
		return "", "", err
	}
	return html, out.String(), nil
}

func TestRowsAreWhatATemplateWrites(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "Plain words", `<script>alert("1")</script>`, `a' onx="y`, "1 + 1 > 2 & more", "{{.}}", "\x00", "`é"}), rapid.String())
	link := rapid.SampledFrom([]string{"", "https://crm.example.com/tasks/1", "http://crm.example.com/a?b=c&d=e+f#g"})
	rapid.Check(t, func(t *rapid.T) {
		tasks := rapid.SliceOf(rapid.Custom(func(t *rapid.T) taskView {
			return taskView{
				Title: text.Draw(t, "title"), URL: link.Draw(t, "url"), Due: text.Draw(t, "due"), Priority: text.Draw(t, "priority"),
				From: text.Draw(t, "from"), Overdue: rapid.Bool().Draw(t, "overdue"),
			}
		})).Draw(t, "tasks")
		html, plain, err := templateRows(tasks)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(htmlRows(tasks)); got != html {
			t.Fatalf("HTML\n%s\nwant\n%s", got, html)
		}
		if got := textRows(tasks); got != plain {
			t.Fatalf("text\n%s\nwant\n%s", got, plain)
		}
	})
}

func TestALinkStaysInItsQuotes(t *testing.T) {
	t.Parallel()
	html := string(htmlRows([]taskView{{Title: "x", URL: `https://crm.example.com/?q="><script>'`}}))
	if strings.Contains(html, "<script") || strings.Count(html, `"`) != strings.Count(string(htmlRows([]taskView{{Title: "x", URL: "https://crm.example.com/"}})), `"`) {
		t.Errorf("the link broke out: %s", html)
	}
}

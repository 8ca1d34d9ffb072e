package notify

import (
	htmltemplate "html/template"
	"strings"
)

// Most of a mail is rows of tasks, and a template takes longer over a few of them than all else that is done for the mail.
// So they are written here, byte for byte as a template would; the rest of the mail is in templates.

// escaped makes text safe between tags and in quoted attributes.
var escaped = strings.NewReplacer(
	"\x00", "\ufffd", `"`, "&#34;", "&", "&amp;", "'", "&#39;", "+", "&#43;", "<", "&lt;", ">", "&gt;")

// htmlRows is the body of the table of tasks.
func htmlRows(tasks []taskView) htmltemplate.HTML {
	var out strings.Builder
	out.Grow(512 * len(tasks))
	put := func(parts ...string) {
		for _, part := range parts {
			out.WriteString(part)
		}
	}
	for _, t := range tasks {
		put("\n", `<tr valign="top"><td class="task">`)
		if title := escaped.Replace(t.Title); t.URL != "" {
			put(`<a href="`, escaped.Replace(t.URL), `" style="color:#0b57c4"><bdi>`, title, `</bdi></a>`)
		} else {
			put(`<bdi>`, title, `</bdi>`)
		}
		put("</td>\n<td>")
		switch {
		case t.Overdue:
			put(`<b class="late" style="color:#b3261e">Overdue</b><br>`, escaped.Replace(t.Due))
		case t.Due != "":
			put(escaped.Replace(t.Due))
		default:
			put("No due date")
		}
		put("</td>\n<td>")
		if t.Priority != "" {
			put(`<i class="label">Priority: </i><bdi>`, escaped.Replace(t.Priority), `</bdi>`)
		}
		put("</td>\n", `<td class="last"><i class="label">From </i><bdi>`, escaped.Replace(t.From), `</bdi></td></tr>`)
	}
	return htmltemplate.HTML(out.String())
}

// textRows are the same tasks in the text.
func textRows(tasks []taskView) string {
	var out strings.Builder
	out.Grow(192 * len(tasks))
	for _, t := range tasks {
		out.WriteString("\n\n* " + t.Title + "\n  ")
		switch {
		case t.Overdue:
			out.WriteString("OVERDUE since " + t.Due)
		case t.Due != "":
			out.WriteString("Due " + t.Due)
		default:
			out.WriteString("No due date")
		}
		if t.Priority != "" {
			out.WriteString(" | Priority: " + t.Priority)
		}
		out.WriteString(" | From " + t.From)
		if t.URL != "" {
			out.WriteString("\n  " + t.URL)
		}
	}
	return out.String()
}

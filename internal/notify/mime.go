package notify

import (
	"mime"
	"strings"
)

// header is a list, since its order is part of the bytes that tests pin.
type header [][2]string

// maxLine is where header lines are folded, if they have a space to fold at.
const maxLine = 76

// compile makes the message: the text first and the HTML last, as RFC 2046 wants it of alternatives. It adds the MIME
// headers; the bytes depend on its arguments alone.
func (h header) compile(boundary, text, html string) []byte {
	out := make([]byte, 0, 2048+(len(text)+len(html))*5/4)
	put := func(parts ...string) {
		for _, part := range parts {
			out = append(out, part...)
		}
	}
	h = append(h, [2]string{"MIME-Version", "1.0"}, [2]string{"Content-Type", `multipart/alternative; boundary="` + boundary + `"`})
	for _, field := range h {
		put(fold(field[0]+": "+field[1]), "\r\n")
	}
	for _, part := range []struct{ kind, content string }{{"text/plain", text}, {"text/html", html}} {
		put("\r\n--", boundary, "\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: ", part.kind, "; charset=utf-8\r\n\r\n")
		out = quotedPrintable(out, part.content)
	}
	put("\r\n--", boundary, "--\r\n")
	return out
}

// encoded is a header value that people wrote: one line, and nothing but ASCII.
func encoded(s string) string { return mime.QEncoding.Encode("utf-8", clean(s)) }

// fold breaks a header line at spaces.
func fold(line string) string {
	var out strings.Builder
	// Never right after the name: a line of only spaces would end the header for some readers.
	least := strings.IndexByte(line, ':') + 1
	for len(line) > maxLine {
		at := strings.LastIndexByte(line[:maxLine+1], ' ')
		if at <= least {
			next := strings.IndexByte(line[maxLine:], ' ')
			if next < 0 {
				break
			}
			at = maxLine + next
		}
		out.WriteString(line[:at])
		out.WriteString("\r\n")
		line, least = line[at:], 0
	}
	out.WriteString(line)
	return out.String()
}

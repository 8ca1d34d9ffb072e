package notify

import (
	"bytes"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
)

// header is a list, since its order is part of the bytes that tests pin.
type header [][2]string

// maxLine is where header lines are folded, if they have a space to fold at.
const maxLine = 76

// compile makes the message: the text first and the HTML last, as RFC 2046 wants it of alternatives. It adds the MIME
// headers; the bytes depend on its arguments alone.
func (h header) compile(boundary, text, html string) ([]byte, error) {
	var out bytes.Buffer
	h = append(h, [2]string{"MIME-Version", "1.0"}, [2]string{"Content-Type", `multipart/alternative; boundary="` + boundary + `"`})
	for _, field := range h {
		out.WriteString(fold(field[0] + ": " + field[1]))
		out.WriteString("\r\n")
	}
	out.WriteString("\r\n")
	parts := multipart.NewWriter(&out)
	if err := parts.SetBoundary(boundary); err != nil {
		return nil, err
	}
	for _, part := range []struct{ kind, content string }{{"text/plain", text}, {"text/html", html}} {
		w, err := parts.CreatePart(textproto.MIMEHeader{
			"Content-Type":              {part.kind + "; charset=utf-8"},
			"Content-Transfer-Encoding": {"quoted-printable"},
		})
		if err != nil {
			return nil, err
		}
		qp := quotedprintable.NewWriter(w)
		if _, err := qp.Write([]byte(strings.ReplaceAll(part.content, "\n", "\r\n"))); err != nil {
			return nil, err
		}
		if err := qp.Close(); err != nil {
			return nil, err
		}
	}
	if err := parts.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
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

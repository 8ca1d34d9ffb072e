package event

import (
	"strconv"
	"time"

	"handover.io/internal/rawjson"
)

// objectWriter writes a JSON object, member by member, as encoding/json would without its escapes for HTML (which make a
// "&" of a url six times as long). Announcements are most of what a reassigner writes; by reflection they were a third of
// its time.
type objectWriter struct{ b []byte }

func (w *objectWriter) begin() { w.b = append(w.b, '{') }

func (w *objectWriter) end() { w.b = append(w.b, '}') }

// member begins a member whose value is appended next. Names are ours and need no escapes.
func (w *objectWriter) member(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *objectWriter) text(name, value string) {
	w.member(name)
	w.b = rawjson.AppendText(w.b, value)
}

// optional leaves the member out when it is empty.
func (w *objectWriter) optional(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

// orNull writes null for the empty text.
func (w *objectWriter) orNull(name, value string) {
	if value != "" {
		w.text(name, value)
		return
	}
	w.member(name)
	w.b = append(w.b, "null"...)
}

// time writes an instant of a year from 0 to 9999.
func (w *objectWriter) time(name string, t time.Time) {
	w.member(name)
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}

func (w *objectWriter) whole(name string, n int64) {
	w.member(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *objectWriter) boolean(name string, v bool) {
	w.member(name)
	w.b = strconv.AppendBool(w.b, v)
}

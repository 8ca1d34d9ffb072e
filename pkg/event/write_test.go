package event

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The writer is our own; what it writes is what encoding/json would.
func TestWritesWhatEncodingJSONWould(t *testing.T) {
	t.Parallel()
	texts := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("a\"\\\x00\x1f\n/<>&\u007f\u00e9\u2026\u2028\u2029\U0001f600"))),
		rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) }))
	type object struct {
		Text     string    `json:"text"`
		Optional string    `json:"optional,omitempty"`
		OrNull   *string   `json:"or_null"`
		Time     time.Time `json:"time"`
		Whole    int64     `json:"whole"`
		Boolean  bool      `json:"boolean"`
	}
	rapid.Check(t, func(t *rapid.T) {
		o := object{
			Text: texts.Draw(t, "text"), Optional: texts.Draw(t, "optional"), Whole: rapid.Int64().Draw(t, "whole"), Boolean: rapid.Bool().Draw(t, "boolean"),
			Time: time.UnixMicro(rapid.Int64Range(0, 253402300799e6).Draw(t, "time")).UTC(),
		}
		orNull := texts.Draw(t, "or null")
		if orNull != "" {
			o.OrNull = &orNull
		}
		var w objectWriter
		w.begin()
		w.text("text", o.Text)
		w.optional("optional", o.Optional)
		w.orNull("or_null", orNull)
		w.time("time", o.Time)
		w.whole("whole", o.Whole)
		w.boolean("boolean", o.Boolean)
		w.end()
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(o); err != nil {
			t.Fatal(err)
		}
		if want := bytes.TrimSpace(want.Bytes()); !bytes.Equal(w.b, want) {
			t.Fatalf("wrote %q\nwant  %q", w.b, want)
		}
	})
}

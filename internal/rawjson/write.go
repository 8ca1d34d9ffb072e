package rawjson

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// AppendText appends s as a JSON string, as encoding/json would without its escapes for HTML, which make a "&" of a url
// six times as long. What isn't UTF-8 is replaced.
func AppendText(b []byte, s string) []byte {
	if !unescaped(s) {
		var quoted strings.Builder
		e := json.NewEncoder(&quoted)
		e.SetEscapeHTML(false)
		_ = e.Encode(s) // a string always can be
		return append(b, strings.TrimSuffix(quoted.String(), "\n")...)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// unescaped tells whether s is written as it is. U+2028 and U+2029 are not: JavaScript once took them for ends of lines,
// and encoding/json writes them so; both begin with the byte E2.
func unescaped(s string) bool {
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c == '"' || c == '\\' || c == 0xe2:
			return false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return ascii || utf8.ValidString(s)
}

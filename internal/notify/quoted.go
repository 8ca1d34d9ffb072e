package notify

// quotedPrintable appends text as quoted-printable (RFC 2045, 6.7), its lines ended by CRLF.
func quotedPrintable(out []byte, text string) []byte {
	const most = 75 // characters of a line, and one more for the sign that it goes on
	length := 0
	for i := 0; i < len(text); {
		run := i
		for run < len(text) && run-i < most-length && literal[text[run]] {
			run++
		}
		if run > i && text[run-1] == ' ' && (run == len(text) || text[run] == '\n') {
			run-- // a blank that ends a line would be lost on the way
		}
		out, length, i = append(out, text[i:run]...), length+run-i, run
		switch {
		case i == len(text):
		case text[i] == '\n':
			out, length, i = append(out, "\r\n"...), 0, i+1
		case length == most && literal[text[i]], length > most-len("=00"):
			out, length = append(out, "=\r\n"...), 0
		default:
			out, length, i = append(out, '=', hexDigits[text[i]>>4], hexDigits[text[i]&15]), length+len("=00"), i+1
		}
	}
	return out
}

const hexDigits = "0123456789ABCDEF"

// literal are the characters that stand for themselves.
var literal = func() (is [256]bool) {
	for c := ' '; c <= '~'; c++ {
		is[c] = c != '='
	}
	return is
}()

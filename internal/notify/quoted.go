package notify

// quotedPrintable appends text as quoted-printable (RFC 2045, 6.7), its lines ended by CRLF.
func quotedPrintable(out []byte, text string) []byte {
	const hex = "0123456789ABCDEF"
	length := 0 // of the line so far; with what continues it at most 76
	encode := func(c byte) {
		if length > 75-3 {
			out, length = append(out, "=\r\n"...), 0
		}
		out, length = append(out, '=', hex[c>>4], hex[c&15]), length+3
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\n':
			out, length = append(out, "\r\n"...), 0
		case c >= '!' && c <= '~' && c != '=',
			(c == ' ' || c == '\t') && i+1 < len(text) && text[i+1] != '\n': // a blank that ends a line would be lost on the way
			if length == 75 {
				out, length = append(out, "=\r\n"...), 0
			}
			out, length = append(out, c), length+1
		default:
			encode(c)
		}
	}
	return out
}

package rawjson

import "unicode/utf8"

// Parse is [Object.Append] for what nobody has looked at yet: it tells whether raw, which may have space around it, is one
// JSON object, as strict as [encoding/json.Valid] and in valid UTF-8 too. If it isn't, the result is of no use. Looking and
// walking at once takes a third of the time of one after the other.
func (o Object) Parse(raw []byte) (Object, bool) {
	c := cursor{raw: raw}
	c.space()
	if c.peek() != '{' || !utf8.Valid(raw) {
		return o, false
	}
	for more := c.open('}'); more; {
		name := c.i
		end, at, ok := c.member(1)
		if !ok {
			return o, false
		}
		o = append(o, Member{Name: unquote(raw[name:end]), Value: raw[at:c.i], At: at})
		if more, ok = c.next('}'); !ok {
			return o, false
		}
	}
	c.space()
	return o, c.i == len(raw)
}

// cursor checks JSON that may be anything. What it has taken lies before i; a method that returns false has met what is
// not JSON.
type cursor struct {
	raw []byte
	i   int
}

// maxDepth is how deep encoding/json goes.
const maxDepth = 10_000

// peek is the next byte, or 0, which JSON has nowhere.
func (c *cursor) peek() byte {
	if c.i < len(c.raw) {
		return c.raw[c.i]
	}
	return 0
}

func (c *cursor) take(b byte) bool {
	if c.peek() != b {
		return false
	}
	c.i++
	return true
}

func (c *cursor) space() {
	for b := c.peek(); b == ' ' || b == '\n' || b == '\r' || b == '\t'; b = c.peek() {
		c.i++
	}
}

// open takes the bracket that begins here; more tells whether anything follows before the one that closes it.
func (c *cursor) open(closing byte) (more bool) {
	c.i++
	c.space()
	return !c.take(closing)
}

// next takes what follows a member or an element: the closing bracket, or a comma, after which there is more.
func (c *cursor) next(closing byte) (more, ok bool) {
	c.space()
	if c.take(closing) {
		return false, true
	}
	ok = c.take(',')
	c.space()
	return ok, ok
}

// member takes a name, which ends at end, and its value, which begins at at.
func (c *cursor) member(depth int) (end, at int, ok bool) {
	if !c.text() {
		return 0, 0, false
	}
	end = c.i
	c.space()
	if !c.take(':') {
		return 0, 0, false
	}
	c.space()
	at = c.i
	return end, at, c.value(depth)
}

func (c *cursor) object(depth int) bool {
	ok := depth <= maxDepth
	for more := c.open('}'); more && ok; {
		if _, _, ok = c.member(depth); ok {
			more, ok = c.next('}')
		}
	}
	return ok
}

func (c *cursor) array(depth int) bool {
	ok := depth <= maxDepth
	for more := c.open(']'); more && ok; {
		if ok = c.value(depth); ok {
			more, ok = c.next(']')
		}
	}
	return ok
}

// value takes the value that begins here; depth is of what it is in.
func (c *cursor) value(depth int) bool {
	switch b := c.peek(); b {
	case '"':
		return c.text()
	case '{':
		return c.object(depth + 1)
	case '[':
		return c.array(depth + 1)
	case 't':
		return c.word("true")
	case 'f':
		return c.word("false")
	case 'n':
		return c.word("null")
	}
	return c.number()
}

func (c *cursor) word(w string) bool {
	end := c.i + len(w)
	if end > len(c.raw) || string(c.raw[c.i:end]) != w {
		return false
	}
	c.i = end
	return true
}

func (c *cursor) number() bool {
	c.take('-')
	if !c.take('0') && !c.digits() {
		return false
	}
	if c.take('.') && !c.digits() {
		return false
	}
	if c.take('e') || c.take('E') {
		if !c.take('+') {
			c.take('-')
		}
		return c.digits()
	}
	return true
}

// digits takes one or more.
func (c *cursor) digits() bool {
	before := c.i
	for b := c.peek(); b >= '0' && b <= '9'; b = c.peek() {
		c.i++
	}
	return c.i > before
}

// text takes a string.
func (c *cursor) text() bool {
	if !c.take('"') {
		return false
	}
	for {
		for c.i < len(c.raw) && plain[c.raw[c.i]] {
			c.i++
		}
		switch {
		case c.take('"'):
			return true
		case !c.take('\\') || !c.escape():
			return false
		}
	}
}

func (c *cursor) escape() bool {
	switch b := c.peek(); b {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.i++
		return true
	case 'u':
		c.i++
		for range 4 {
			b := c.peek()
			if (b < '0' || b > '9') && (b < 'a' || b > 'f') && (b < 'A' || b > 'F') {
				return false
			}
			c.i++
		}
		return true
	}
	return false
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for b := 0x20; b < len(t); b++ {
		t[b] = b != '"' && b != '\\'
	}
	return t
}()

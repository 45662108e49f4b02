package ui

import (
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// keyKind is what a key means to a prompt.
type keyKind uint8

const (
	keyOther keyKind = iota // means nothing here
	keyText                 // printable text, typed or pasted
	keyEnter
	keyLeave   // Ctrl-C
	keyEnd     // Ctrl-D: delete, or leave an empty line
	keyUp      // also Ctrl-P, Shift-Tab
	keyDown    // also Ctrl-N, Tab
	keyLeft    // also Ctrl-B
	keyRight   // also Ctrl-F
	keyStart   // Home, Ctrl-A
	keyFinish  // End, Ctrl-E
	keyErase   // Backspace
	keyDelete  // Delete
	keyWord    // Ctrl-W: erase the word before
	keyLine    // Ctrl-U: erase all before
	keyRemains // Ctrl-K: erase all after
)

type key struct {
	kind keyKind
	text string // of keyText
}

const escape = 0x1b

// sequenceWithin is how long the next byte of a key that sends several may take; an
// Escape that is followed by none is the key of that name.
const sequenceWithin = 50 * time.Millisecond

// maxSequence and maxPaste bound what is kept of input that no keyboard sends; the
// rest is read and dropped.
const (
	maxSequence = 64
	maxPaste    = 64 << 10
)

var controls = map[byte]keyKind{
	'\r': keyEnter, '\n': keyEnter, // Enter is \n when it was pressed while no prompt was there
	0x03: keyLeave, 0x04: keyEnd, 0x10: keyUp, 0x0e: keyDown, '\t': keyDown, 0x02: keyLeft, 0x06: keyRight,
	0x01: keyStart, 0x05: keyFinish, 0x08: keyErase, 0x7f: keyErase, 0x17: keyWord, 0x15: keyLine, 0x0b: keyRemains,
}

// finals are keys by the last byte of their sequence (ECMA-48 CSI, or SS3), tildes
// those that end in ~ by their number, as xterm's and the Linux console's.
var (
	finals = map[byte]keyKind{'A': keyUp, 'B': keyDown, 'C': keyRight, 'D': keyLeft, 'H': keyStart, 'F': keyFinish, 'Z': keyUp}
	tildes = map[string]keyKind{"1": keyStart, "7": keyStart, "4": keyFinish, "8": keyFinish, "3": keyDelete}
)

// readKey takes exactly the bytes of one key from read, which waits for a byte for at
// most that time.
func readKey(read func(within time.Duration) (byte, error)) (key, error) {
	b, err := read(forever)
	for err == nil && b == escape {
		var k key
		if k, b, err = readSequence(read); b != escape {
			return k, err
		}
	}
	switch {
	case err != nil:
		return key{}, err
	case b < 0x20 || b == 0x7f:
		return key{kind: controls[b]}, nil
	case b < utf8.RuneSelf:
		return key{keyText, string(rune(b))}, nil
	}
	return readRune(b, read)
}

// readRune reads on after the first byte of a character of several.
func readRune(first byte, read func(time.Duration) (byte, error)) (key, error) {
	encoded := []byte{first}
	for !utf8.FullRune(encoded) {
		b, err := read(sequenceWithin)
		if errors.Is(err, errLate) {
			return key{}, nil
		}
		if err != nil {
			return key{}, err
		}
		encoded = append(encoded, b)
	}
	if r, size := utf8.DecodeRune(encoded); size == len(encoded) && unicode.IsPrint(r) {
		return key{keyText, string(encoded)}, nil
	}
	return key{}, nil
}

// readSequence reads on after an Escape. last is the byte after it where that does not
// belong to it.
func readSequence(read func(time.Duration) (byte, error)) (k key, last byte, err error) {
	b, err := read(sequenceWithin)
	switch {
	case errors.Is(err, errLate):
		return key{}, 0, nil
	case err != nil:
		return key{}, 0, err
	case b == 'O':
		b, err = read(sequenceWithin)
		if b == 'M' { // Enter beside the digits
			return key{kind: keyEnter}, 0, err
		}
		return key{kind: finals[b]}, 0, late(err)
	case b != '[':
		return key{}, b, nil // Alt and a key means nothing here
	}
	var parameters []byte
	for {
		if b, err = read(sequenceWithin); err != nil {
			return key{}, 0, late(err)
		}
		if b == '[' && len(parameters) == 0 { // a function key of the Linux console
			_, err = read(sequenceWithin)
			return key{}, 0, late(err)
		}
		if 0x40 <= b && b <= 0x7e {
			break
		}
		if len(parameters) < maxSequence {
			parameters = append(parameters, b)
		}
	}
	switch number, _, _ := strings.Cut(string(parameters), ";"); {
	case b == '~' && number == "200":
		k, err = readPaste(read)
		return k, 0, err
	case b == '~':
		return key{kind: tildes[number]}, 0, nil
	}
	return key{kind: finals[b]}, 0, nil
}

func late(err error) error {
	if errors.Is(err, errLate) {
		return nil
	}
	return err
}

// readPaste reads what was pasted, which is text whatever is in it: a line's end there
// answers nothing.
func readPaste(read func(time.Duration) (byte, error)) (key, error) {
	const end = "\x1b[201~"
	var pasted []byte
	for {
		b, err := read(forever)
		if err != nil {
			return key{}, err
		}
		if pasted = append(pasted, b); strings.HasSuffix(string(pasted[max(0, len(pasted)-len(end)):]), end) {
			return key{keyText, oneLine(string(pasted[:len(pasted)-len(end)]))}, nil
		}
		if len(pasted) > maxPaste {
			pasted = append(pasted[:maxPaste-len(end)], pasted[len(pasted)-len(end):]...)
		}
	}
}

// oneLine is text without what a line cannot hold.
func oneLine(pasted string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(pasted), ""))
}

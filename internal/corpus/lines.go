package corpus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// plain reads plain text, one document. A byte order mark is no part of it.
func (r *reader) plain(in io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(in, maxDocument+1))
	if err != nil {
		return unreadable(err)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case len(data) > maxDocument:
		return fmt.Errorf("%w: more than %d bytes; cut it, calibration and evaluation need far less", ErrText, maxDocument)
	case bytes.IndexByte(data, 0) >= 0:
		return fmt.Errorf("%w: it holds zero bytes, so it is a binary file", ErrText)
	case !utf8.Valid(data):
		return fmt.Errorf("%w: it is not valid UTF-8", ErrText)
	}
	return r.document(string(data))
}

// lines reads JSON lines, each of them a document with its text in one field.
func (r *reader) lines(in io.Reader) error {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 1<<20), maxLine)
	line := 0
	for s.Scan() {
		line++
		row := bytes.TrimSpace(s.Bytes())
		if line == 1 {
			row = bytes.TrimPrefix(row, []byte("\xef\xbb\xbf"))
		}
		if len(row) == 0 {
			continue
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(row, &fields); err != nil {
			return fmt.Errorf("%w: line %d is no JSON object: %w", ErrText, line, err)
		}
		raw, ok := fields[r.Column]
		if !ok {
			return fmt.Errorf("%w: line %d has no field %q", ErrText, line, r.Column)
		}
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return fmt.Errorf("%w: line %d: field %q is no string", ErrText, line, r.Column)
		}
		if err := r.document(text); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%w: line %d is longer than %d bytes", ErrText, line+1, maxLine)
	}
	return unreadable(s.Err())
}

// unreadable tells a damaged file, which gzip complains about, from a failing disk.
func unreadable(err error) error {
	if damaged(err) {
		return fmt.Errorf("%w: it is damaged: %w", ErrText, err)
	}
	return err
}

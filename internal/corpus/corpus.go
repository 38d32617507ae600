// Package corpus reads text for calibration and evaluation.
//
// In: the path of a plain text file, or of JSON lines with a field "text" (C4's
// form), either also gzipped. Out: one string, documents joined by an empty
// line, and its hash. Text that is empty, binary or not UTF-8 is refused: a
// wrong file would otherwise only show as a bad perplexity.
package corpus

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
)

// Text is a loaded corpus.
type Text struct {
	Text      string
	Documents int    // 1 for plain text
	Hash      string // SHA-256 of Text, hexadecimal
}

// ErrText marks a file that is no usable text.
var ErrText = errors.New("not usable as text")

// maxBytes bounds what is read, after decompression.
const maxBytes = 1 << 30

// separator stands between the documents of a corpus.
const separator = "\n\n"

// Load reads the corpus at path. The format follows from the name: .json and
// .jsonl are JSON lines, all else is plain text; .gz is decompressed first.
func Load(path string) (Text, error) {
	f, err := os.Open(path)
	if err != nil {
		return Text{}, err
	}
	defer f.Close()
	var r io.Reader = bufio.NewReaderSize(f, 1<<20)
	name := strings.ToLower(path)
	if inner, ok := strings.CutSuffix(name, ".gz"); ok {
		name = inner
		z, err := gzip.NewReader(r)
		if err != nil {
			return Text{}, fmt.Errorf("%s: %w: it is no gzip file: %v", path, ErrText, err)
		}
		r = z
	}
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return Text{}, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxBytes {
		return Text{}, fmt.Errorf("%s: %w: more than %d bytes; cut it, calibration and evaluation need far less", path, ErrText, maxBytes)
	}
	text := Text{Documents: 1}
	if strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".jsonl") {
		text.Text, text.Documents, err = joinLines(data)
	} else {
		text.Text, err = plain(data)
	}
	if err != nil {
		return Text{}, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256([]byte(text.Text))
	text.Hash = hex.EncodeToString(sum[:])
	return text, nil
}

// plain checks plain text. A byte order mark is no part of it.
func plain(data []byte) (string, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return "", fmt.Errorf("%w: it is empty", ErrText)
	case bytes.IndexByte(data, 0) >= 0:
		return "", fmt.Errorf("%w: it holds zero bytes, so it is a binary file", ErrText)
	case !utf8.Valid(data):
		return "", fmt.Errorf("%w: it is not valid UTF-8", ErrText)
	}
	return string(data), nil
}

// joinLines joins the field "text" of every JSON line.
func joinLines(data []byte) (string, int, error) {
	var out strings.Builder
	documents, line := 0, 0
	for len(data) > 0 {
		line++
		row, rest, _ := bytes.Cut(data, []byte{'\n'})
		data = rest
		if len(bytes.TrimSpace(row)) == 0 {
			continue
		}
		var doc struct {
			Text *string `json:"text"`
		}
		if err := json.Unmarshal(row, &doc); err != nil {
			return "", 0, fmt.Errorf("%w: line %d is no JSON object: %v", ErrText, line, err)
		}
		if doc.Text == nil {
			return "", 0, fmt.Errorf("%w: line %d has no field \"text\"", ErrText, line)
		}
		if documents > 0 {
			out.WriteString(separator)
		}
		out.WriteString(*doc.Text)
		documents++
	}
	if strings.TrimSpace(out.String()) == "" {
		return "", 0, fmt.Errorf("%w: it is empty", ErrText)
	}
	return out.String(), documents, nil
}

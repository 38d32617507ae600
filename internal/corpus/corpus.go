// Package corpus reads text for calibration and evaluation.
//
// In: the path of a plain text file, of JSON lines (C4's form), either also
// gzipped, of a Parquet file, or of a folder with such files. Out: its
// documents one by one, or all in one string, joined by an empty line, with its
// hash. Text that is empty, binary or not UTF-8 is refused: a wrong file would
// otherwise only show as a bad perplexity.
//
// Documents are read as a stream: no more than one, or one page of a Parquet
// file, is in memory at a time.
package corpus

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// ErrText marks a file that is no usable text.
var ErrText = errors.New("not usable as text")

const (
	maxText     = 1 << 30   // bytes that [Join] returns at most
	maxDocument = 512 << 20 // bytes of a plain text file
	maxLine     = 64 << 20  // bytes of a JSON line, and of a document in it
	maxRead     = 1 << 40   // bytes of all documents; a gzip file of a few MB could hold more
)

// Separator stands between the documents of a corpus.
const Separator = "\n\n"

// DefaultColumn is the name under which files keep their documents.
const DefaultColumn = "text"

// Text is a loaded corpus.
type Text struct {
	Text      string
	Documents int    // 1 for plain text
	Hash      string // SHA-256 of Text, hexadecimal
}

// Options says how a corpus is read.
type Options struct {
	Column  string               // field of JSON lines, column of Parquet files; empty: DefaultColumn
	Message func(message string) // told what is passed over; may be nil
}

// Summary is what a corpus holds.
type Summary struct {
	Documents int
	Bytes     int64  // of all documents, without separators
	Hash      string // SHA-256 of all documents joined by separators, hexadecimal
}

// Load reads the whole corpus at path with default options.
func Load(path string) (Text, error) { return Join(path, Options{}) }

// Join reads the whole corpus at path; see [Read].
func Join(path string, o Options) (Text, error) {
	var out strings.Builder
	s, err := Read(path, o, func(document string) error {
		if out.Len() > 0 {
			out.WriteString(Separator)
		}
		if out.Len()+len(document) > maxText {
			return fmt.Errorf("%w: more than %d bytes; cut it, calibration and evaluation need far less", ErrText, maxText)
		}
		out.WriteString(document)
		return nil
	})
	return Text{out.String(), s.Documents, s.Hash}, err
}

// Read calls visit with the documents at path, in order. The format follows
// from the name: .json and .jsonl are JSON lines, .parquet is Parquet, all else
// is plain text, which is one document; .gz is decompressed first. The files of
// a folder are read in the order of their paths, as far as their names promise
// text. Documents of nothing but white space are passed over.
func Read(path string, o Options, visit func(document string) error) (Summary, error) {
	if o.Column == "" {
		o.Column = DefaultColumn
	}
	r := &reader{Options: o, visit: visit, hash: sha256.New()}
	info, err := os.Stat(path)
	if err != nil {
		return Summary{}, err
	}
	if info.IsDir() {
		err = r.folder(path)
	} else {
		err = r.file(path)
	}
	if err == nil && r.Documents == 0 {
		err = fmt.Errorf("%s: %w: it is empty", path, ErrText)
	}
	if err != nil {
		return Summary{}, err
	}
	r.Hash = hex.EncodeToString(r.hash.Sum(nil))
	return r.Summary, nil
}

// reader reads one corpus.
type reader struct {
	Options
	Summary
	visit func(string) error
	hash  hash.Hash
}

// document takes one document, whatever it was read from.
func (r *reader) document(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	if r.Bytes += int64(len(text)); r.Bytes > maxRead {
		return fmt.Errorf("%w: more than %d bytes", ErrText, int64(maxRead))
	}
	if r.Documents > 0 {
		_, _ = io.WriteString(r.hash, Separator) // a hash never fails
	}
	r.Documents++
	_, _ = io.WriteString(r.hash, text)
	return r.visit(text)
}

// file reads one file in the format that its name says.
func (r *reader) file(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}()
	name, zipped := strings.CutSuffix(strings.ToLower(path), ".gz")
	if strings.HasSuffix(name, ".parquet") {
		if zipped {
			return fmt.Errorf("%w: a Parquet file is compressed inside; unpack it", ErrText)
		}
		return r.parquet(f)
	}
	var in io.Reader = bufio.NewReaderSize(f, 1<<20)
	if zipped {
		if in, err = gzip.NewReader(in); err != nil {
			return fmt.Errorf("%w: it is no gzip file: %w", ErrText, err)
		}
	}
	if strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".jsonl") {
		return r.lines(in)
	}
	return r.plain(in)
}

package corpus

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// parquet reads one column of a Parquet file, each value a document. Damage of
// any kind is an error: the library panics on some.
func (r *reader) parquet(f *os.File) (err error) {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: it is a damaged Parquet file: %v", ErrText, p)
		}
	}()
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%w: it is no Parquet file: %w", ErrText, err)
	}
	column, err := r.column(file)
	if err != nil {
		return err
	}
	row := int64(0)
	for _, group := range file.RowGroups() {
		chunks := group.ColumnChunks()
		if column >= len(chunks) {
			return fmt.Errorf("%w: it is a damaged Parquet file: a row group lacks column %q", ErrText, r.Column)
		}
		if err := r.chunk(chunks[column], &row); err != nil {
			return err
		}
	}
	return nil
}

// column finds the column of text.
func (r *reader) column(file *parquet.File) (int, error) {
	var names []string
	for _, c := range file.Root().Columns() {
		if c.Leaf() && !c.Repeated() && c.Type().Kind() == parquet.ByteArray {
			if c.Name() == r.Column {
				return c.Index(), nil
			}
			names = append(names, c.Name())
		}
	}
	return 0, fmt.Errorf("%w: it has no column %q of strings; of strings are: %s (choose with --calib-column)", ErrText, r.Column, strings.Join(names, ", "))
}

// chunk reads the column's values in one row group; row counts them.
func (r *reader) chunk(c parquet.ColumnChunk, row *int64) (err error) {
	pages := c.Pages()
	defer func() { err = errors.Join(err, pages.Close()) }()
	values := make([]parquet.Value, 64)
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: after row %d: %w", ErrText, *row, err)
		}
		if err := r.page(page.Values(), values, row); err != nil {
			return err
		}
		parquet.Release(page)
	}
}

// page reads the values of one page.
func (r *reader) page(in parquet.ValueReader, values []parquet.Value, row *int64) error {
	for {
		n, err := in.ReadValues(values)
		for _, v := range values[:n] {
			*row++
			if v.IsNull() {
				continue
			}
			if !utf8.Valid(v.ByteArray()) {
				return fmt.Errorf("%w: row %d is not valid UTF-8", ErrText, *row)
			}
			if err := r.document(string(v.ByteArray())); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: after row %d: %w", ErrText, *row, err)
		case n == 0:
			return fmt.Errorf("%w: it is a damaged Parquet file: a page ends early after row %d", ErrText, *row)
		}
	}
}

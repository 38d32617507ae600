package corpus

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestLoad(t *testing.T) {
	lines := `{"text":"one\nline","url":"x"}` + "\n\n" + `{"text":"two"}` + "\n"
	for name, tc := range map[string]struct {
		data      []byte
		want      string
		documents int
	}{
		"a.txt":      {[]byte(" a\r\nb \n"), " a\r\nb \n", 1},
		"bom.raw":    {[]byte("\xef\xbb\xbftext"), "text", 1},
		"a.txt.gz":   {gzipped(t, "zipped"), "zipped", 1},
		"a.jsonl":    {[]byte(lines), "one\nline\n\ntwo", 2},
		"a.JSON.gz":  {gzipped(t, lines), "one\nline\n\ntwo", 2},
		"noend.json": {[]byte(`{"text":"last"}`), "last", 1},
	} {
		got, err := Load(write(t, name, tc.data))
		if err != nil || got.Text != tc.want || got.Documents != tc.documents || len(got.Hash) != 64 {
			t.Errorf("%s: %+v, %v; want %q from %d documents", name, got, err, tc.want, tc.documents)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"empty.txt":    {nil, "empty"},
		"blank.txt":    {[]byte(" \n\n"), "empty"},
		"binary.txt":   {[]byte("GGUF\x03\x00\x00"), "binary"},
		"latin.txt":    {[]byte("caf\xe9"), "UTF-8"},
		"broken.gz":    {[]byte("no gzip"), "gzip"},
		"broken.json":  {[]byte("{"), "line 1"},
		"array.jsonl":  {[]byte(`{"text":"a"}` + "\n[1]"), "line 2"},
		"nofield.json": {[]byte(`{"content":"a"}`), `no field "text"`},
		"blank.json":   {[]byte(`{"text":" "}`), "empty"},
	} {
		_, err := Load(write(t, name, tc.data))
		if !errors.Is(err, ErrText) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want one with %q and the file's name", name, err, tc.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

package corpus

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
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
		got, err := Join(write(t, name, tc.data), Options{})
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
		_, err := Join(write(t, name, tc.data), Options{})
		if !errors.Is(err, ErrText) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want one with %q and the file's name", name, err, tc.want)
		}
	}
	if _, err := Join(filepath.Join(t.TempDir(), "missing"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

type row struct {
	Text *string `parquet:"text,optional,dict,zstd"`
	URL  string  `parquet:"url,snappy"`
	N    int64   `parquet:"n"`
}

// parquetFile writes documents in row groups of two; "-" is a null.
func parquetFile(t testing.TB, documents ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, parquet.MaxRowsPerRowGroup(2))
	for i, d := range documents {
		r := row{Text: &d, URL: "url of " + d, N: int64(i)}
		if d == "-" {
			r.Text = nil
		}
		if _, err := w.Write([]row{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestParquet(t *testing.T) {
	path := write(t, "a.parquet", parquetFile(t, "one", "-", "two\nlines", " ", "one", "drei \u00df"))
	got, err := Join(path, Options{})
	if want := "one\n\ntwo\nlines\n\none\n\ndrei \u00df"; err != nil || got.Text != want || got.Documents != 4 {
		t.Errorf("%+v, %v; want %q", got, err, want)
	}
	lines, err := Join(write(t, "same.jsonl", []byte(`{"text":"one"}`+"\n"+`{"text":"two\nlines"}`+"\n"+`{"text":"one"}`+"\n"+`{"text":"drei \u00df"}`)), Options{})
	if err != nil || lines.Hash != got.Hash {
		t.Errorf("the same documents as JSON lines have hash %s, not %s (%v)", lines.Hash, got.Hash, err)
	}
	if got, err := Join(path, Options{Column: "url"}); err != nil || !strings.HasPrefix(got.Text, "url of one\n\nurl of -") {
		t.Errorf("column url: %q, %v", got.Text, err)
	}
	for column, want := range map[string]string{"n": `no column "n" of strings; of strings are: text, url`, "content": `no column "content"`} {
		if _, err := Join(path, Options{Column: column}); !errors.Is(err, ErrText) || !strings.Contains(err.Error(), want) {
			t.Errorf("column %s: %v", column, err)
		}
	}
	bad := write(t, "latin.parquet", parquetFile(t, "fine", "caf\xe9"))
	if _, err := Join(bad, Options{}); !errors.Is(err, ErrText) || !strings.Contains(err.Error(), "row 2 is not valid UTF-8") {
		t.Errorf("not UTF-8: %v", err)
	}
}

// TestDamagedParquet cuts and changes a file everywhere: an error or a text,
// never a panic.
func TestDamagedParquet(t *testing.T) {
	whole := parquetFile(t, "one", "two", "three", strings.Repeat("much ", 10))
	path := filepath.Join(t.TempDir(), "a.parquet")
	refused := 0
	try := func(data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Join(path, Options{}); err != nil {
			refused++
			if !errors.Is(err, ErrText) {
				t.Fatalf("another kind of error: %v", err)
			}
		}
	}
	cuts := 0
	for n := 0; n < len(whole); n += 7 {
		cuts++
		try(whole[:n])
	}
	if refused != cuts {
		t.Errorf("%d of %d cut files are refused", refused, cuts)
	}
	for i := range whole {
		data := bytes.Clone(whole)
		data[i] ^= []byte{0x01, 0x80, 0xff}[i%3]
		try(data)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"b/z.txt": []byte("last"), "a.jsonl.gz": gzipped(t, `{"text":"one"}`+"\n"+`{"text":"two"}`), "b/c.parquet": parquetFile(t, "three", "four"),
		"picture.png": {0x89, 'P', 0}, "b/empty.txt": nil, ".git/config.txt": []byte("hidden"), ".hidden.txt": []byte("hidden"), "README": []byte("no"),
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	linked := os.Symlink(filepath.Join(dir, "b", "z.txt"), filepath.Join(dir, "link.md")) == nil
	_ = os.Symlink(dir, filepath.Join(dir, "circle.txt")) // where links cannot be made, the rest is tested
	var messages []string
	got, err := Join(dir, Options{Message: func(m string) { messages = append(messages, m) }})
	want := "one\n\ntwo\n\nthree\n\nfour\n\nlast"
	if linked {
		want += "\n\nlast"
	}
	if err != nil || got.Text != want {
		t.Errorf("%q, %v; want %q", got.Text, err, want)
	}
	if len(messages) != 1 || !strings.Contains(messages[0], "picture.png") || !strings.Contains(messages[0], "empty.txt") {
		t.Errorf("messages %q", messages)
	}
	bad := filepath.Join(dir, "b", "bad.jsonl")
	if err := os.WriteFile(bad, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(dir, Options{}); !errors.Is(err, ErrText) || !strings.Contains(err.Error(), "bad.jsonl") {
		t.Errorf("a folder with a broken file: %v", err)
	}
	if _, err := Join(t.TempDir(), Options{}); !errors.Is(err, ErrText) {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestOtherFieldAndEarlyStop(t *testing.T) {
	path := write(t, "a.jsonl", []byte(`{"content":"a","text":7}`+"\n"+`{"content":"b"}`))
	if got, err := Join(path, Options{Column: "content"}); err != nil || got.Text != "a\n\nb" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Join(path, Options{}); !errors.Is(err, ErrText) || !strings.Contains(err.Error(), `field "text" is no string`) {
		t.Errorf("a number for a text: %v", err)
	}
	stop, seen := errors.New("stop"), 0
	if _, err := Read(path, Options{Column: "content"}, func(string) error { seen++; return stop }); !errors.Is(err, stop) || seen != 1 {
		t.Errorf("after %d documents: %v", seen, err)
	}
	long := `{"text":"` + strings.Repeat("x", maxLine) + `"}`
	if _, err := Join(write(t, "long.jsonl", []byte(long)), Options{}); !errors.Is(err, ErrText) || !strings.Contains(err.Error(), "line 1 is longer") {
		t.Errorf("a line without end: %v", err)
	}
	cut := gzipped(t, strings.Repeat("words ", 5000))
	if _, err := Join(write(t, "cut.txt.gz", cut[:len(cut)/2]), Options{}); !errors.Is(err, ErrText) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a gzip file cut off: %v", err)
	}
}

func FuzzParquet(f *testing.F) {
	f.Add(parquetFile(f, "one", "-", "two"))
	f.Add([]byte("PAR1PAR1"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "a.parquet")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Join(path, Options{}); err != nil && !errors.Is(err, ErrText) {
			t.Errorf("another kind of error: %v", err)
		}
	})
}

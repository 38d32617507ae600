package llama

import (
	"errors"
	"io"
	"strings"
	"testing"
)

type failing struct{ io.ReadSeeker }

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// TestStreamCallbacks: the callbacks answer for open streams only, and an error
// of the reader is kept.
func TestStreamCallbacks(t *testing.T) {
	s, err := openStream(strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	var buf [8]byte
	offset := int64(1)
	if r := streamSeek(s.id, &offset, io.SeekStart); r != 0 || offset != 1 {
		t.Errorf("seek: %d, at %d", r, offset)
	}
	if n := streamRead(s.id, &buf[0], 8); n != 4 || string(buf[:4]) != "ello" {
		t.Errorf("read %d bytes: %q", n, buf)
	}
	if n := streamRead(s.id, &buf[0], 8); n != 0 {
		t.Errorf("%d bytes after the end", n)
	}
	offset = -5
	if r := streamSeek(s.id, &offset, io.SeekStart); r != failed {
		t.Error("seeks before the start")
	}
	s.close()
	if n := streamRead(s.id, &buf[0], 8); n != failed {
		t.Errorf("a closed stream gives %d", n)
	}

	r := &reader{ReadSeeker: failing{}}
	if s, err = openStream(r); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if n := streamRead(s.id, &buf[0], 8); n != failed || r.err == nil {
		t.Errorf("a failing reader gives %d, %v", n, r.err)
	}
}

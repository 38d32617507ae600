package corpus

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// textNames are how the names of files end that are taken for text in a folder.
var textNames = []string{".txt", ".text", ".md", ".rst", ".raw", ".json", ".jsonl", ".parquet"}

// folder reads the text files of a folder and of the folders in it. Links to
// files are followed, links to folders are not: they may go in circles.
func (r *reader) folder(root string) error {
	var files, others []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch hidden := strings.HasPrefix(d.Name(), ".") && path != root; {
		case err != nil:
			return err
		case d.IsDir() && hidden:
			return filepath.SkipDir
		case d.IsDir():
		case hidden || !promisesText(path):
			others = append(others, d.Name())
		default:
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() == 0 {
			others = append(others, filepath.Base(path))
			continue
		}
		if err := r.file(path); err != nil {
			return err
		}
	}
	r.skipped(others)
	return nil
}

func promisesText(path string) bool {
	name := strings.TrimSuffix(strings.ToLower(path), ".gz")
	return slices.ContainsFunc(textNames, func(end string) bool { return strings.HasSuffix(name, end) })
}

// skipped says what was passed over.
func (r *reader) skipped(names []string) {
	const shown = 5
	if len(names) == 0 || r.Message == nil {
		return
	}
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		list += ", …"
	}
	r.Message(fmt.Sprintf("%d files are no text and are passed over: %s", len(names), list))
}

// damaged tells errors of a file's content from those of the system.
func damaged(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &corrupt)
}

package ablate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The report's place in a document lies between these lines.
const (
	beginMark = "<!-- besa ablate: begin; written by the command, not by hand -->\n"
	endMark   = "<!-- besa ablate: end -->\n"
)

// Into puts the report of a run into a Markdown document: between its marks,
// or at its end where it has none. The plots go to the folder img beside it.
func (r *Result) Into(document string) error {
	text, err := os.ReadFile(r.Report)
	if err != nil {
		return err
	}
	doc, err := os.ReadFile(document)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begin, end := bytes.Index(doc, []byte(beginMark)), bytes.Index(doc, []byte(endMark))
	switch {
	case begin < 0 && end < 0:
		begin, end = len(doc), len(doc)
		if begin > 0 {
			doc = append(doc, '\n')
			begin, end = len(doc), len(doc)
		}
	case begin < 0 || end < begin:
		return fmt.Errorf("%s: of the two marks around the ablations one is missing: remove the other", document)
	default:
		end += len(endMark)
	}
	from := filepath.Join(filepath.Dir(r.Report), imageFolder)
	to := filepath.Join(filepath.Dir(document), imageFolder)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	images, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, image := range images {
		svg, err := os.ReadFile(filepath.Join(from, image.Name()))
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(to, image.Name()), svg); err != nil {
			return err
		}
	}
	return replace(document, bytes.Join([][]byte{doc[:begin], []byte(beginMark), text, []byte(endMark), doc[end:]}, nil))
}

package llama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	yzma "github.com/hybridgroup/yzma/pkg/llama"

	"besa/sparsefmt"
)

// source is what a sparse model needs as long as it is loaded.
type source struct {
	file  *sparsefmt.File
	dense *expansion
	held  blobs  // unpacked ones, which the native plugin executes
	temp  string // folder to remove; "" for none
}

func (s *source) close() error {
	if s == nil {
		return nil
	}
	err := errors.Join(s.file.Close(), s.held.close())
	if s.temp != "" {
		err = errors.Join(err, os.RemoveAll(s.temp))
	}
	return err
}

// errNotTaken means that llama.cpp did not place what was offered in the native
// plugin, so it holds zeros.
var errNotTaken = errors.New("llama.cpp left offered tensors to its own kernels")

// loadSparse loads a sparse GGUF. Every checksum is compared before any of its
// bytes reach llama.cpp or the plugin.
func (m *Model) loadSparse(ctx context.Context, progress func(done, total int64)) (err error) {
	f, err := sparsefmt.Open(m.path)
	if err != nil {
		return err
	}
	m.source = &source{file: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.source.close())
			m.source = nil
		}
	}()
	if err := f.CheckSums(ctx, progress); err != nil {
		return err
	}
	m.source.dense = newExpansion(f)
	defer func() { // llama.cpp has read it
		m.source.dense = nil
		sparsefmt.ReleaseBuffers()
		f.GGUF().ReleaseHeader()
	}()
	if plugin := library.plugin; plugin != nil {
		err := m.loadOffered(plugin)
		if !errors.Is(err, errNotTaken) {
			return err
		}
		m.source.dense.skip = nil
		if err := m.source.held.close(); err != nil {
			return err
		}
	}
	return m.loadExpanded()
}

// loadOffered loads with every pruned tensor offered that the plugin can
// execute; llama.cpp gets zeros for those.
func (m *Model) loadOffered(plugin *plugin) error {
	offers, err := plugin.offerAll(m.source.file, &m.source.held)
	defer plugin.withdraw(offers)
	if err != nil {
		return err
	}
	if len(offers) == 0 {
		return errNotTaken
	}
	m.source.dense.skip = map[string]bool{}
	for _, o := range offers {
		m.source.dense.skip[o.name] = true
	}
	before := plugin.offered()
	if err := m.loadExpanded(); err != nil {
		return err
	}
	if plugin.offered()-before != len(offers) {
		err := yzma.ModelFree(m.handle)
		m.handle = 0
		return errors.Join(errNotTaken, err)
	}
	return nil
}

// loadExpanded hands the expansion to llama.cpp. Mapping is off, since there is
// no file to map, and extra buffer types stay on: the native plugin is one.
func (m *Model) loadExpanded() error {
	params := m.params()
	params.LoadMode = yzma.LoadModeNone
	handle, err := m.source.load(params)
	if err != nil {
		return library.log.explain(fmt.Errorf("load %s in llama.cpp: %w", m.path, err))
	}
	m.handle = handle
	return nil
}

// Sparse tells whether the file is a sparse one, how many pruned tensors it
// has, and how many tensors the native plugin executes sparse: those of a sparse
// file from its mapped bytes, those of an ordinary Q4_0 file from what it made
// of their zeros. llama.cpp holds the others expanded in memory.
func (m *Model) Sparse() (sparse bool, pruned, native int) {
	if m.source == nil {
		return false, 0, m.native
	}
	for _, t := range m.source.file.Tensors() {
		if t.Sparse {
			pruned++
		}
	}
	return true, pruned, m.native
}

// reader gives an expansion as a stream. It keeps the error that llama.cpp
// learns of as a failed read only.
type reader struct {
	io.ReadSeeker
	err error
}

func newReader(e *expansion) *reader {
	return &reader{ReadSeeker: io.NewSectionReader(e, 0, e.size)}
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadSeeker.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

package sparsefmt

import (
	"fmt"

	"besa/gguf"
)

// File is an open sparse GGUF: the logical view of its tensors, in the order
// of the source, over the mapped file. Its methods may be called from many
// goroutines, but none after Close or together with it.
type File struct {
	g       *gguf.File
	entries []entry
	byName  map[string]int
	layout  Layout
}

// entry is one tensor of the expanded file.
type entry struct {
	stored gguf.Tensor // as it stands in the file
	info   TensorInfo  // of a pruned tensor
	blob   blobReader  // of a pruned tensor, else nil
	sum    uint64      // of a dense tensor's bytes
}

// IsSparse reports whether an open GGUF file claims to be a sparse one, of
// any version.
func IsSparse(g *gguf.File) bool {
	_, ok := g.Lookup(keyVersion)
	return ok
}

// Open maps a sparse GGUF and checks everything that can be checked without
// reading the weights: the GGUF container, the header checksum, the keys, the
// table, and of every blob the header and the tile offsets (rules R1 to R8,
// R11, R12, R21). Contents are checked as they are used, and all at once by
// [Verify]. Errors: those of gguf.Open, ErrNotSparse, ErrVersion,
// ErrMalformed, ErrChecksum.
func Open(path string) (*File, error) {
	g, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := open(g)
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func open(g *gguf.File) (*File, error) {
	if !IsSparse(g) {
		_, err := checkKeys(g)
		return nil, err
	}
	var f *File
	err := gguf.GuardFault(func() (err error) {
		f, err = load(g)
		return err
	})
	if err == nil {
		err = checkHeaderSum(g)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// load builds the logical view; it checks all but the header checksum.
func load(g *gguf.File) (*File, error) {
	if v := g.Version(); v != ggufV3 {
		return nil, broken(RuleContainer, "GGUF version %d, want %d", v, ggufV3)
	}
	layout, err := checkKeys(g)
	if err != nil {
		return nil, err
	}
	table, err := readTable(g)
	if err != nil {
		return nil, err
	}
	f := &File{g: g, byName: map[string]int{}, layout: layout}
	if err := f.addTensors(table); err != nil {
		return nil, err
	}
	return f, nil
}

// addTensors joins the table with the tensors of the file (rules R5 to R7).
func (f *File) addTensors(table []TensorInfo) error {
	sums, _ := f.g.Uints(keyDenseSum)
	stored := f.g.Tensors()
	blobs := 0
	for _, t := range stored {
		if _, ok := cutSuffix(t.Name); ok {
			blobs++
		}
	}
	if blobs != len(table) {
		return broken(RuleNames, "%d tensors have the suffix %s, the table has %d", blobs, Suffix, len(table))
	}
	if dense := len(stored) - blobs; dense != len(sums) {
		return broken(RuleDenseTable, "%s has %d entries for %d dense tensors", keyDenseSum, len(sums), dense)
	}
	for _, t := range stored {
		e := entry{stored: t}
		if name, ok := cutSuffix(t.Name); ok {
			e.info, table = table[0], table[1:]
			e.info.Layout = f.layout
			if err := e.addBlob(f.g.Data(t)); err != nil {
				return inTensor(name, err)
			}
		} else {
			e.sum, sums = sums[0], sums[1:]
		}
		if _, ok := f.byName[e.name()]; ok {
			return inTensor(e.name(), broken(RuleNames, "two tensors expand to this name"))
		}
		f.byName[e.name()] = len(f.entries)
		f.entries = append(f.entries, e)
	}
	return nil
}

// addBlob checks that the table row in e.info describes the stored tensor,
// whose data is blob.
func (e *entry) addBlob(blob []byte) (err error) {
	t := e.stored
	if e.info.Name+Suffix != t.Name {
		return broken(RuleNames, "the table has %q in its place", e.info.Name)
	}
	if t.Type != gguf.I8 || len(t.Shape) != 1 {
		return broken(RuleNames, "a blob of type %v and shape %v: must be I8 with one dimension", t.Type, t.Shape)
	}
	e.info.BlobBytes = t.Bytes
	e.blob, err = openBlob(blob, e.info)
	return err
}

// cutSuffix returns the expanded name of a blob.
func cutSuffix(name string) (string, bool) {
	if n := len(name) - len(Suffix); n >= 0 && name[n:] == Suffix {
		return name[:n], true
	}
	return name, false
}

func (e *entry) name() string {
	if e.blob != nil {
		return e.info.Name
	}
	return e.stored.Name
}

// GGUF is the underlying file: metadata, and tensors as stored.
func (f *File) GGUF() *gguf.File { return f.g }

// Path is the name the file was opened by.
func (f *File) Path() string { return f.g.Path() }

// Layout is how the file stores its blobs.
func (f *File) Layout() Layout { return f.layout }

// Close unmaps the file; what Rows and Plain returned is gone.
func (f *File) Close() error { return f.g.Close() }

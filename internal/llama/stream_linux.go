package llama

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
	yzma "github.com/hybridgroup/yzma/pkg/llama"
	"github.com/hybridgroup/yzma/pkg/loader"
	"github.com/jupiterrider/ffi"
)

// llama.cpp reads a model from a C stream (FILE *), and C streams can be made
// of callbacks: fopencookie(3). The callbacks below serve all streams of the
// process, since callbacks are never freed; a stream's cookie is its number.

var (
	loadFromFilePtr ffi.Fun // llama_model *llama_model_load_from_file_ptr(FILE *, llama_model_params)

	// modelParams is struct llama_model_params, as in yzma's ModelParams.
	modelParams = ffi.NewType(&ffi.TypePointer, &ffi.TypePointer,
		&ffi.TypeSint32, &ffi.TypeSint32, &ffi.TypeSint32, &ffi.TypeSint32, &ffi.TypeSint32,
		&ffi.TypePointer, &ffi.TypePointer, &ffi.TypePointer, &ffi.TypePointer,
		&ffi.TypeUint8, &ffi.TypeUint8, &ffi.TypeUint8, &ffi.TypeUint8, &ffi.TypeUint8, &ffi.TypeUint8)

	// ioFunctions is cookie_io_functions_t.
	ioFunctions = ffi.NewType(&ffi.TypePointer, &ffi.TypePointer, &ffi.TypePointer, &ffi.TypePointer)
)

// loadFilePtr finds the function that the binding lacks.
func loadFilePtr(dir string) error {
	lib, err := loader.LoadLibrary(dir, "llama")
	if err != nil {
		return err
	}
	loadFromFilePtr, err = lib.Prep("llama_model_load_from_file_ptr", &ffi.TypePointer, &ffi.TypePointer, &modelParams)
	return err
}

// load reads the model from a stream that expands on the fly.
func (s *source) load(params yzma.ModelParams) (yzma.Model, error) {
	r := newReader(s.dense)
	stream, err := openStream(r)
	if err != nil {
		return 0, err
	}
	defer stream.close()
	var model yzma.Model
	loadFromFilePtr.Call(&model, &stream.file, &params)
	if r.err != nil {
		if model != 0 {
			_ = yzma.ModelFree(model)
		}
		return 0, r.err
	}
	if model == 0 {
		return 0, errors.New("failed to load model")
	}
	return model, nil
}

// streams are the open ones by number.
var streams struct {
	sync.Mutex
	open map[uintptr]io.ReadSeeker
	last uintptr
}

// stream is a FILE * that reads from Go.
type stream struct {
	file uintptr
	id   uintptr
}

// libc holds the C functions, found once.
var libc = sync.OnceValues(func() (c struct {
	open  ffi.Fun
	close uintptr
	io    [4]uintptr // cookie_io_functions_t: read, write, seek, close
}, err error) {
	if c.open.Addr, err = purego.Dlsym(purego.RTLD_DEFAULT, "fopencookie"); err != nil {
		return c, err
	}
	c.open.Cif = new(ffi.Cif)
	if status := ffi.PrepCif(c.open.Cif, ffi.DefaultAbi, 3, &ffi.TypePointer, &ffi.TypePointer, &ffi.TypePointer, &ioFunctions); status != ffi.OK {
		return c, fmt.Errorf("libffi: %v", status)
	}
	c.io = [4]uintptr{purego.NewCallback(streamRead), 0, purego.NewCallback(streamSeek), 0}
	c.close, err = purego.Dlsym(purego.RTLD_DEFAULT, "fclose")
	return c, err
})

// openStream makes a C stream of a reader.
func openStream(r io.ReadSeeker) (*stream, error) {
	c, err := libc()
	if err != nil {
		return nil, fmt.Errorf("make a C stream: %w", err)
	}
	streams.Lock()
	defer streams.Unlock()
	if streams.open == nil {
		streams.open = map[uintptr]io.ReadSeeker{}
	}
	streams.last++
	s := &stream{id: streams.last}
	mode := &[]byte("rb\x00")[0]
	c.open.Call(&s.file, &s.id, &mode, &c.io)
	if s.file == 0 {
		return nil, errors.New("make a C stream: fopencookie fails")
	}
	streams.open[s.id] = r
	return s, nil
}

func (s *stream) close() {
	if c, err := libc(); err == nil {
		_, _, _ = purego.SyscallN(c.close, s.file)
	}
	streams.Lock()
	defer streams.Unlock()
	delete(streams.open, s.id)
}

func byNumber(id uintptr) io.ReadSeeker {
	streams.Lock()
	defer streams.Unlock()
	return streams.open[id]
}

const failed = ^uintptr(0) // -1

// streamRead is cookie_read_function_t. It may give less than asked for.
func streamRead(id uintptr, buf *byte, size uintptr) uintptr {
	r := byNumber(id)
	if r == nil || buf == nil || size > math.MaxInt {
		return failed
	}
	n, err := r.Read(unsafe.Slice(buf, size))
	if err != nil && !errors.Is(err, io.EOF) {
		return failed
	}
	return uintptr(n)
}

// streamSeek is cookie_seek_function_t.
func streamSeek(id uintptr, offset *int64, whence int32) uintptr {
	r := byNumber(id)
	if r == nil || offset == nil {
		return failed
	}
	to, err := r.Seek(*offset, int(whence))
	if err != nil {
		return failed
	}
	*offset = to
	return 0
}

package llama

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"besa/sparsefmt"
)

// The native plugin (native/src/besa_native.h) executes pruned tensors in the
// plain layout where they lie. The structs below follow version native.ABI of
// that header.

// Native says which native plugin executes pruned tensors. The first [Load] of
// a process decides for all.
type Native string

// Values of [Native].
const (
	NativeNamed Native = ""     // the one in $GGML_BACKEND_PATH, as in any llama.cpp app
	NativeAuto  Native = "auto" // that one, or else the installed one (besa native install)
	NativeOn    Native = "on"   // likewise; its absence is an error
	NativeOff   Native = "off"  // none
)

// ErrNoNative means that native execution was asked for and is not to be had.
var ErrNoNative = errors.New("no native execution")

// Set implements the interface of command-line flags.
func (n *Native) Set(s string) error {
	switch v := Native(s); v {
	case NativeAuto, NativeOn, NativeOff:
		*n = v
		return nil
	}
	return fmt.Errorf("must be %s, %s or %s", NativeAuto, NativeOn, NativeOff)
}

// String implements the interface of command-line flags.
func (n *Native) String() string { return string(*n) }

// Type implements the interface of command-line flags.
func (n *Native) Type() string { return "name" }

// choose returns the path of the plugin to use, "" for none. What
// $GGML_BACKEND_PATH names, llama.cpp would load by itself, more than once and
// at first before its own backends: so if that is the plugin, the variable goes.
// If it is another backend, both are loaded.
func (n *Native) choose() (string, error) {
	named := namedPlugin()
	if named != "" {
		if err := os.Unsetenv("GGML_BACKEND_PATH"); err != nil {
			return "", err
		}
	}
	switch {
	case *n == NativeOff:
		return "", nil
	case named != "" || *n == NativeNamed:
		return named, nil
	}
	return installedPlugin()
}

// start loads the plugin and finds its functions, once llama.cpp is loaded.
func (n *Native) start(dir, path string) error {
	if path != "" {
		if err := loadPlugin(dir, path); err != nil {
			return fmt.Errorf("load the native plugin %s: %w", path, err)
		}
	}
	p := openPlugin(path)
	switch {
	case *n == NativeOff:
		library.native = "off: switched off"
	case path == "" && *n == NativeNamed:
		library.native = "off: GGML_BACKEND_PATH does not name it"
	case path == "":
		library.native = "off: not installed; besa native install does it"
	case p == nil:
		library.native = fmt.Sprintf("off: %s is of another version; besa native install replaces it", path)
	default:
		library.native = p.kernel()
	}
	if !strings.HasPrefix(library.native, "off") {
		library.plugin = p
	} else if *n == NativeOn {
		return fmt.Errorf("%w: %s", ErrNoNative, strings.TrimPrefix(library.native, "off: "))
	}
	return nil
}

// ProbeNative loads llama.cpp and the plugin, as [Load] with [NativeAuto] does,
// and returns the library's folder and what [NativeKernel] says then.
func ProbeNative(explicit string) (dir, kernel string, err error) {
	if dir, err = FindLibrary(explicit); err != nil {
		return "", "", err
	}
	if err := openLibrary(dir, NativeAuto); err != nil {
		return dir, "", err
	}
	return dir, NativeKernel(), nil
}

// NativeKernel says how the native plugin executes sparse tensors, such as
// "avx512-vbmi2", or "off: " and why it does not; "" before the first [Load].
func NativeKernel() string {
	library.Lock()
	defer library.Unlock()
	return library.native
}

// Results of besa_native_offer.
const (
	nativeOK      = 0
	nativeCorrupt = -2
)

// nativeTensor is struct besa_native_tensor.
type nativeTensor struct {
	size       uint64
	name       *byte
	rows, cols uint64
	coding     uint32
	group      uint32
	blob       *byte
	blobBytes  uint64
	_          uint64
}

// nativeStats is struct besa_native_stats; blank fields are not read here.
type nativeStats struct {
	size             uint64
	tensorsSparse, _ uint64
	tensorsOffered   uint64
	_, _, _          uint64 // bytes
	kernel           [32]byte
}

// plugin is the loaded native plugin.
type plugin struct {
	offer      func(*nativeTensor) int32
	withdrawAt func(*byte)
	stats      func(*nativeStats) int32
}

// offer is a tensor on offer.
type offer struct {
	name string
	blob []byte
}

// offerAll offers every pruned tensor that the plugin can execute: plain blobs
// where they are mapped, packed ones unpacked into held. A blob that breaks a
// rule is an error.
func (p *plugin) offerAll(f *sparsefmt.File, held *blobs) ([]offer, error) {
	defer held.trim()
	var offers []offer
	for _, v := range f.Tensors() {
		if !v.Sparse {
			continue
		}
		blob, info, _, err := f.Plain(v.Name)
		if err != nil {
			return offers, fmt.Errorf("%s: %w", f.Path(), err)
		}
		if f.Layout() != sparsefmt.LayoutPlain { // unpacked: the file's bytes are not needed any more
			if stored, ok := f.GGUF().Tensor(v.Name + sparsefmt.Suffix); ok {
				f.GGUF().Release(stored)
			}
			if blob, err = held.hold(blob); err != nil {
				return offers, fmt.Errorf("%s: tensor %q: %w", f.Path(), v.Name, err)
			}
		}
		o := offer{v.Name, blob}
		name := append([]byte(v.Name), 0)
		t := nativeTensor{
			size: uint64(unsafe.Sizeof(nativeTensor{})), name: &name[0], rows: info.Rows(), cols: info.Cols(),
			coding: uint32(info.Coding), group: uint32(info.Group), blob: &o.blob[0], blobBytes: uint64(len(o.blob)),
		}
		switch p.offer(&t) {
		case nativeOK:
			offers = append(offers, o)
		case nativeCorrupt:
			return offers, fmt.Errorf("%s: tensor %q: %w: the native plugin refuses its blob", f.Path(), v.Name, sparsefmt.ErrMalformed)
		}
		runtime.KeepAlive(name)
	}
	return offers, nil
}

// withdraw ends offers; models that were filled from them keep using the blobs.
func (p *plugin) withdraw(offers []offer) {
	for _, o := range offers {
		p.withdrawAt(&o.blob[0])
	}
}

// read asks the plugin what it is doing.
func (p *plugin) read() nativeStats {
	s := nativeStats{size: uint64(unsafe.Sizeof(nativeStats{}))}
	if p.stats(&s) != nativeOK {
		return nativeStats{}
	}
	return s
}

// offered returns how many tensors run from offered blobs.
func (p *plugin) offered() int { return int(p.read().tensorsOffered) }

// sparse returns how many tensors run sparse; without a plugin none do.
func (p *plugin) sparse() int {
	if p == nil {
		return 0
	}
	return int(p.read().tensorsSparse)
}

// kernel names the kernel that is at work, or says why there is none.
func (p *plugin) kernel() string {
	s := p.read()
	name, _, _ := bytes.Cut(s.kernel[:], []byte{0})
	return string(name)
}

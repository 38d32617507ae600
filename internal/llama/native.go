package llama

import (
	"fmt"
	"runtime"
	"unsafe"

	"besa/sparsefmt"
)

// The native plugin (native/src/besa_native.h) executes pruned tensors in the
// plain layout where they lie. llama.cpp loads it through $GGML_BACKEND_PATH.

// nativeABI is BESA_NATIVE_ABI of the header that the structs below follow.
const nativeABI = 1

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

// nativeStats is struct besa_native_stats.
type nativeStats struct {
	size                                        uint64
	tensorsSparse, tensorsStock, tensorsOffered uint64
	bytesSparse, bytesOffered, bytesExpanded    uint64
	kernel                                      [32]byte
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

// offerAll offers every pruned tensor that the plugin can execute. A blob that
// breaks a rule is an error.
func (p *plugin) offerAll(f *sparsefmt.File) ([]offer, error) {
	var offers []offer
	for _, v := range f.Tensors() {
		if !v.Sparse {
			continue
		}
		blob, info, _, err := f.Plain(v.Name)
		if err != nil {
			return offers, fmt.Errorf("%s: %w", f.Path(), err)
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

// offered returns how many tensors run from offered blobs.
func (p *plugin) offered() int {
	s := nativeStats{size: uint64(unsafe.Sizeof(nativeStats{}))}
	if p.stats(&s) != nativeOK {
		return 0
	}
	return int(s.tensorsOffered)
}

package sparsefmt

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"besa/gguf"

	"github.com/zeebo/xxh3"
)

// surgery is a sparse file taken apart, so that a test can break one rule and
// put it together again with all checksums right.
type surgery struct {
	t       testing.TB
	kvs     []gguf.KV
	tensors []gguf.Tensor
	data    map[string][]byte
}

func newSurgery(t testing.TB) *surgery {
	t.Helper()
	return surgeryOn(t, vectorFile)
}

func surgeryOn(t testing.TB, path string) *surgery {
	t.Helper()
	f := mustOpen(t, path)
	s := &surgery{t: t, data: map[string][]byte{}}
	for _, kv := range f.GGUF().KVs() {
		kv.Raw = slices.Clone(kv.Raw)
		s.kvs = append(s.kvs, kv)
	}
	for _, x := range f.GGUF().Tensors() {
		x.Shape = slices.Clone(x.Shape)
		s.tensors = append(s.tensors, x)
		s.data[x.Name] = slices.Clone(f.GGUF().Data(x))
	}
	return s
}

// The pruned tensors of the vector, in order.
const (
	symName  = "blk.0.attn_q.weight"
	asymName = "blk.0.ffn_up.weight"
	f16Name  = "blk.0.ffn_gate_exps.weight"
	bf16Name = "blk.0.ffn_down.weight"
	tinyName = "blk.0.ffn_tiny.weight"
	q8Name   = "blk.0.attn_k.weight"
	skewName = "blk.0.attn_output.weight"
)

var prunedNames = []string{symName, asymName, f16Name, bf16Name, tinyName, q8Name, skewName}

func (s *surgery) blob(name string) []byte { return s.data[name+Suffix] }

// kv returns the value bytes of a key; array elements start at 12.
func (s *surgery) kv(key string) []byte {
	for _, kv := range s.kvs {
		if kv.Key == key {
			return kv.Raw
		}
	}
	s.t.Fatalf("no key %s", key)
	return nil
}

// set replaces or, before the header checksum, adds a pair.
func (s *surgery) set(key string, v any) {
	kv := gguf.MustKV(key, v)
	for i := range s.kvs {
		if s.kvs[i].Key == key {
			s.kvs[i] = kv
			return
		}
	}
	s.kvs = slices.Insert(s.kvs, len(s.kvs)-1, kv)
}

func (s *surgery) remove(key string) {
	s.kvs = slices.DeleteFunc(s.kvs, func(kv gguf.KV) bool { return kv.Key == key })
}

// put32 and put64 replace element i of an array.
func (s *surgery) put32(key string, i int, v uint32) {
	binary.LittleEndian.PutUint32(s.kv(key)[12+4*i:], v)
}

func (s *surgery) put64(key string, i int, v uint64) {
	binary.LittleEndian.PutUint64(s.kv(key)[12+8*i:], v)
}

// signBlobs makes the checksums of the blobs right.
func (s *surgery) signBlobs() {
	for i, name := range prunedNames {
		s.put64(keyBlobSum, i, xxh3.Hash(s.blob(name)))
	}
}

// write puts the file together, its header checksum right, if it has one.
func (s *surgery) write() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "broken.gguf")
	m := testModel{kvs: s.kvs, tensors: s.tensors, data: s.data}
	for i := range m.tensors {
		m.tensors[i].Bytes = uint64(len(s.data[m.tensors[i].Name]))
	}
	m.write(s.t, path)
	signHeader(s.t, path)
	return path
}

// signHeader makes the header checksum of a file right, where the last key is one.
func signHeader(t testing.TB, path string) {
	t.Helper()
	b := mustRead(t, path)
	if resigned(path, b) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// resigned puts the right header checksum into b, the contents of path.
func resigned(path string, b []byte) bool {
	g, err := gguf.Open(path)
	if err != nil {
		return false
	}
	defer g.Close()
	at := ggufFixed
	for _, kv := range g.KVs() {
		at += 8 + len(kv.Key) + 4 + len(kv.Raw)
	}
	if n := len(g.KVs()); n == 0 || g.KVs()[n-1].Key != keyHeaderSum || g.KVs()[n-1].Type != gguf.Uint64 {
		return false
	}
	clear(b[at-8 : at])
	sum := xxh3.Hash(b[:min(g.DataOffset(), uint64(len(b)))])
	binary.LittleEndian.PutUint64(b[at-8:], sum)
	return true
}

package main

import (
	"bytes"
	"encoding/binary"
	"os"

	"besa/gguf"
	"besa/sparsefmt"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/zeebo/xxh3"
)

// damage is where cmdDamage flips bits of a pruned 4-bit tensor in the plain
// layout, by the sections of sparsefmt/SPEC.md.
var damage = map[string]func(blob []byte, rows, words, groups int) (at int, flip byte){
	"magic":     func(_ []byte, _, _, _ int) (int, byte) { return 0, 1 },
	"columns":   func(_ []byte, _, _, _ int) (int, byte) { return 9, 0x10 },
	"rows":      func(_ []byte, _, _, _ int) (int, byte) { return 13, 1 },
	"survivors": func(_ []byte, _, _, _ int) (int, byte) { return 16, 1 },
	"size":      func(_ []byte, _, _, _ int) (int, byte) { return 26, 1 },
	"offset":    func(_ []byte, _, _, _ int) (int, byte) { return 36, 1 },
	"halves":    func(_ []byte, rows, _, _ int) (int, byte) { return 36 + 4*((rows+15)/16), 1 },
	"mask":      func(b []byte, _, _, _ int) (int, byte) { return tile(b), 1 },
	"scale":     func(b []byte, _, words, _ int) (int, byte) { at := tile(b) + 16*8*words + 1; return at, ^b[at] & 0x7c },
	"survivor":  func(b []byte, _, words, groups int) (int, byte) { return tile(b) + 16*(8*words+2*groups), 8 },
}

// tile is where a blob's first tile begins.
func tile(blob []byte) int { return 8 * int(binary.LittleEndian.Uint32(blob[32:])) }

// cmdDamage copies a sparse file in the plain layout with one thing wrong in its
// first pruned tensor: damage FROM TO WHERE [resealed]. Resealed, the checksums of the
// blob and of the header are made right again, as somebody would who means it.
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	f, err := sparsefmt.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	data = bytes.Clone(data)
	var info sparsefmt.TensorInfo
	var stored gguf.Tensor
	for _, v := range f.Tensors() {
		if v.Sparse {
			_, info, _ = f.Rows(v.Name)
			stored, _ = f.GGUF().Tensor(v.Name + sparsefmt.Suffix)
			break
		}
	}
	header := data[:f.GGUF().DataOffset()]
	blob := data[uint64(len(header))+stored.Offset:][:info.BlobBytes]
	where := damage[args[2]]
	if where == nil || info.Coding != sparsefmt.CodingQ4Sym || info.Rows() < 16 {
		ts.Fatalf("damage %v: no such place", args)
	}
	cols := int(info.Cols())
	at, flip := where(blob, int(info.Rows()), (cols+63)/64, (cols+info.Group-1)/info.Group)
	blob[at] ^= flip
	if len(args) == 4 {
		replace := func(old, new []byte) {
			if n := bytes.Count(header, old); n != 1 {
				ts.Fatalf("the header has a checksum %d times", n)
			}
			copy(header[bytes.Index(header, old):], new)
		}
		sum := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
		replace(sum(info.BlobSum), sum(xxh3.Hash(blob)))
		kvs := f.GGUF().KVs()
		last := kvs[len(kvs)-1].Raw
		place := bytes.Index(header, last)
		replace(last, make([]byte, 8))
		copy(header[place:], sum(xxh3.Hash(header)))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o644))
}

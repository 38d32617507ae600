// Command cut-model copies the first blocks of a model, so that what is measured on
// them stands for a long run on all of them: blocks of a model are alike.
//
// In: the path of a GGUF, the number of blocks to keep, the path to write. Out:
// a GGUF whose tokenizer, embedding, head and first blocks are those of the source.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"besa/gguf"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: cut-model MODEL.gguf BLOCKS OUT.gguf")
		os.Exit(2)
	}
	blocks, err := strconv.Atoi(os.Args[2])
	if err == nil {
		err = cut(os.Args[1], blocks, os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cut-model:", err)
		os.Exit(1)
	}
}

func cut(from string, blocks int, to string) error {
	f, err := gguf.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	arch, _ := f.String("general.architecture")
	count := arch + ".block_count"
	if all, ok := f.Uint(count); !ok || blocks < 1 || uint64(blocks) > all {
		return fmt.Errorf("%s has %d blocks, not %d to keep", from, all, blocks)
	}
	var kvs []gguf.KV
	for _, kv := range f.KVs() {
		if kv.Key == count {
			kv = gguf.MustKV(count, uint32(blocks))
		}
		kvs = append(kvs, kv)
	}
	var tensors []gguf.Tensor
	for _, t := range f.Tensors() {
		if number, ok := strings.CutPrefix(t.Name, "blk."); ok {
			number, _, _ = strings.Cut(number, ".")
			if b, err := strconv.Atoi(number); err != nil || b >= blocks {
				continue
			}
		}
		tensors = append(tensors, t)
	}
	w, err := gguf.Create(to, kvs, tensors)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, t := range tensors {
		if err := w.WriteTensor(t.Name, f.Data(t)); err != nil {
			return err
		}
	}
	return w.Commit()
}

// Command _asm writes the assembly of package kernel, one file per family of
// kernels and, beside it, its Go declarations:
//
//	go run . -family tile -out ../tile_amd64.s -stubs ../tile_amd64.go -pkg kernel
//
// go generate in package kernel runs it for every family. Each family is
// written for AVX2 and for AVX-512 from one description, products for
// AVX512_BF16, too; what they have to do differently is in isa.go and bf16.go. Comments give pseudo-code in the terms of
// the portable twins, which define what the kernels compute.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	"github.com/mmcloughlin/avo/build"
)

var families = map[string]func(){
	"tile":   func() { eachProduct(tiles) },
	"pack":   func() { eachProduct(packs) },
	"vec":    func() { eachISA(vectors); eachISA(exponentials); eachISA(norms) },
	"peak":   func() { eachProduct(peak); pause() },
	"ranked": func() { eachISA(ranked) },
	"learn":  func() { eachISA(learn) },
	"expand": expand,
}

func main() {
	family := flag.String("family", "", "kernels to write")
	flag.Parse() // avo's flags, too
	write, ok := families[*family]
	if !ok {
		fmt.Fprintf(os.Stderr, "unknown family %q\n", *family)
		os.Exit(2)
	}
	build.ConstraintExpr("amd64,!purego")
	write()
	build.Generate()
	for _, name := range []string{"out", "stubs"} {
		if err := correctHeader(flag.Lookup(name).Value.String()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// correctHeader makes the first line of a generated file name the command that
// writes it: avo names the file that holds main, which alone does not compile.
func correctHeader(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(text, []byte("go run main.go "), []byte("go run . "), 1), 0o666)
}

package sparsefmt

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
)

var update = flag.Bool("update", false, "rewrite the test vectors and their tables in SPEC.md, and the texts of errors in testdata")

const (
	vectorFile       = "testdata/vector.sparse.gguf"
	packedVectorFile = "testdata/vector-packed.sparse.gguf"
	chunksVectorFile = "testdata/vector-chunks.sparse.gguf"
	oldVectorFile    = "testdata/vector-v1.sparse.gguf" // as the first release wrote it
)

var vectorFiles = []string{vectorFile, packedVectorFile, chunksVectorFile, oldVectorFile}

// specTable returns the cells of the table in SPEC.md whose header line
// begins with the given columns, without code marks.
func specTable(t *testing.T, columns ...string) [][]string {
	t.Helper()
	head := "| " + strings.Join(columns, " | ") + " |"
	text := string(mustRead(t, "SPEC.md"))
	if strings.Count(text, "\n"+head) != 1 {
		t.Fatalf("SPEC.md has not exactly one table %q", head)
	}
	_, text, _ = strings.Cut(text, "\n"+head)
	lines := strings.Split(text, "\n")
	var rows [][]string
	for _, line := range lines[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		rows = append(rows, cells)
	}
	if len(rows) == 0 && !*update {
		t.Fatalf("the table %q is empty", head)
	}
	return rows
}

func compareLines(t *testing.T, what string, spec, code []string) {
	t.Helper()
	if !slices.Equal(spec, code) {
		t.Errorf("%s: SPEC.md says\n%s\nthe code says\n%s", what, strings.Join(spec, "\n"), strings.Join(code, "\n"))
	}
}

func TestSpecKeys(t *testing.T) {
	var spec, code []string
	for _, row := range specTable(t, "key", "type", "presence") {
		spec = append(spec, strings.Join(row[:3], " "))
	}
	for _, s := range keySpecs {
		typ, presence := s.typ.String(), "required"
		if s.typ == gguf.Array {
			typ = "array of " + s.elem.String()
		}
		if s.optional {
			presence = "optional"
		}
		code = append(code, s.key+" "+typ+" "+presence)
		if !IsReserved(s.key) {
			t.Errorf("%s has no reserved prefix", s.key)
		}
	}
	slices.Sort(spec)
	slices.Sort(code)
	compareLines(t, "reserved keys", spec, code)
}

func TestSpecCodings(t *testing.T) {
	var spec, code []string
	for _, row := range specTable(t, "coding", "name", "survivor") {
		spec = append(spec, strings.Join([]string{row[0], row[1], row[5], row[6], row[7]}, " "))
	}
	for _, c := range Codings() {
		code = append(code, fmt.Sprint(uint8(c), " ", c, " ", c.Type(), " ", uint32(c.Type()), " version ", c.spec().since))
		if back, err := ParseCoding(c.String()); err != nil || back != c {
			t.Errorf("ParseCoding(%v) is %v, %v", c, back, err)
		}
	}
	compareLines(t, "codings", spec, code)
}

func TestSpecRules(t *testing.T) {
	var spec, code []string
	for _, row := range specTable(t, "rule", "text") {
		spec = append(spec, row[0]+" "+row[1])
	}
	rules := Rules()
	for r := Rule(1); int(r) <= len(rules); r++ {
		code = append(code, r.String()+" "+rules[r])
	}
	compareLines(t, "rules", spec, code)
}

func TestSpecLimits(t *testing.T) {
	var spec []string
	for _, row := range specTable(t, "limit", "value") {
		spec = append(spec, row[2]+" "+row[1])
	}
	var maxBlob uint64 = MaxBlob
	code := []string{
		fmt.Sprint("MaxName ", MaxName), fmt.Sprint("MaxDim ", MaxDim), fmt.Sprint("MaxBlob ", maxBlob),
		fmt.Sprint("TileRows ", TileRows), fmt.Sprint("TailPadding ", TailPadding), fmt.Sprint("MaxChunk ", MaxChunk),
	}
	compareLines(t, "limits", spec, code)
}

func TestSpecHeader(t *testing.T) {
	m := &Matrix{Rows: 2, Cols: 64, Coding: CodingQ4Sym, Group: 32}
	fillMatrix(m, 1, func(int) float64 { return 0.5 })
	blob, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	value := map[string]uint64{"magic": 0x41534542, "layout": 1, "coding": 1, "group": 32, "cols": 64, "rows": 2,
		"survivors": uint64(m.Survivors()), "size": uint64(len(blob))}
	next := 0
	for _, row := range specTable(t, "offset", "type", "field") {
		at, size := 0, map[string]int{"4 bytes": 4, "u8": 1, "u16": 2, "u32": 4, "u64": 8}[row[1]]
		if _, err := fmt.Sscan(row[0], &at); err != nil || at != next || size == 0 {
			t.Fatalf("field %s: offset %q, type %q", row[2], row[0], row[1])
		}
		var got uint64
		for i := range size {
			got |= uint64(blob[at+i]) << (8 * i)
		}
		if got != value[row[2]] {
			t.Errorf("field %s is %d, want %d", row[2], got, value[row[2]])
		}
		next = at + size
	}
	if next != headerBytes {
		t.Errorf("the fields end at %d, the header at %d", next, headerBytes)
	}
}

func TestSpecLayouts(t *testing.T) {
	var spec, code []string
	for _, row := range specTable(t, "layout", "number") {
		spec = append(spec, row[0]+" "+row[1])
	}
	for l := LayoutPlain; l <= LayoutPacked; l++ {
		code = append(code, fmt.Sprint(l, " ", uint8(l)))
	}
	compareLines(t, "layouts", spec, code)
}

func TestSpecBlockModes(t *testing.T) {
	var spec []string
	for _, row := range specTable(t, "mode", "name") {
		spec = append(spec, row[1]+" "+row[0])
	}
	compareLines(t, "modes", spec, []string{fmt.Sprint("raw ", modeRaw), fmt.Sprint("repeat ", modeRepeat), fmt.Sprint("huffman ", modeHuffman)})
	text := string(mustRead(t, "SPEC.md"))
	for _, number := range []string{fmt.Sprintf("⌈n/%d⌉ *blocks*", blockBytes), fmt.Sprintf("for blocks of %d bytes or more", leastHuffman), fmt.Sprintf("*class*, 0 to %d", maxClasses-1)} {
		if !strings.Contains(text, number) {
			t.Errorf("SPEC.md does not say %q", number)
		}
	}
}

// TestSpecVersions: a file has the least version that has its codings, and the
// version decides what it may hold.
func TestSpecVersions(t *testing.T) {
	var newest string
	for _, row := range specTable(t, "version", "has") {
		newest = row[0]
	}
	if newest != fmt.Sprint(FormatVersion) {
		t.Errorf("SPEC.md knows version %s, the code %d", newest, FormatVersion)
	}
	for _, c := range Codings() {
		if got := leastVersion([]TensorInfo{{Coding: CodingQ4Sym}, {Coding: c}}); got != c.spec().since {
			t.Errorf("%v is written as version %d, want %d", c, got, c.spec().since)
		}
	}
	for path, want := range map[string]uint64{vectorFile: 2, packedVectorFile: 2, oldVectorFile: 1} {
		if got, _ := mustOpen(t, path).GGUF().Uint(keyVersion); got != want {
			t.Errorf("%s has version %d, want %d", path, got, want)
		}
	}
}

// TestSpecVectors checks that the committed files still expand to what the
// specification promises, and that this package still writes the same bytes.
func TestSpecVectors(t *testing.T) {
	fresh := map[string]string{chunksVectorFile: chunksVector(t)}
	_, fresh[vectorFile] = newTestModel().sparseAs(t, LayoutPlain)
	_, fresh[packedVectorFile] = newTestModel().sparseAs(t, LayoutPacked)
	var rows []string
	expanded := map[string]string{}
	for _, file := range vectorFiles {
		if path, ok := fresh[file]; ok {
			if *update {
				if err := os.WriteFile(file, mustRead(t, path), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if sha(t, path) != sha(t, file) {
				t.Errorf("the file that Create writes differs from %s", file)
			}
		}
		if _, err := Verify(context.Background(), file); err != nil {
			t.Error(err)
		}
		out := filepath.Join(t.TempDir(), "expanded.gguf")
		if err := mustOpen(t, file).ExpandTo(context.Background(), out, nil); err != nil {
			t.Fatal(err)
		}
		expanded[file] = sha(t, out)
		rows = append(rows, fmt.Sprintf("| `%s` | %d | `%s` | %d | `%s` |", file, len(mustRead(t, file)), sha(t, file), len(mustRead(t, out)), sha(t, out)))
	}
	if expanded[vectorFile] != expanded[packedVectorFile] {
		t.Error("the layouts expand to different files")
	}
	checkSpecRows(t, "| file | bytes |", rows)
	checkSpecRows(t, "| tensor | coding |", vectorRows(t, []string{vectorFile, packedVectorFile}))
}

// chunksVector writes a file whose blobs have several chunks, sections of
// several blocks, and every mode of a block.
func chunksVector(t *testing.T) string {
	t.Helper()
	s := &testModel{data: map[string][]byte{}, pruned: map[string]*Matrix{}, kvs: []gguf.KV{gguf.MustKV("general.architecture", "llama")}}
	s.add("chunks", []uint64{96, 120}, &Matrix{Coding: CodingQ4Asym, Group: 64})
	s.add("values", []uint64{65, 40}, &Matrix{Coding: CodingF16})
	s.add("blocks", []uint64{512, 300}, &Matrix{Coding: CodingQ8Sym, Group: 128})
	blocks := s.pruned["blocks"]
	for i := range blocks.Mask {
		blocks.Mask[i] = 1<<64 - 1
	}
	for i := range blocks.Codes {
		blocks.Codes[i] = uint8(i / (1 << 17) * (i % 7 * i % 5))
	}
	weights := map[string]int{"chunks": 3 * TileRows * 96, "values": 1, "blocks": 1 << 20}
	blobs := map[string]Blob{}
	for name, b := range s.blobs(t) {
		data, err := b.read()
		if err != nil {
			t.Fatal(err)
		}
		packed, info, err := packChunks(data, b.Info, weights[name])
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPacked(packed, info)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"chunks": 3, "values": 3, "blocks": 1}[name]; len(p.chunks) != want {
			t.Errorf("%s has %d chunks, want %d", name, len(p.chunks), want)
		}
		blobs[name] = BlobOf(info, packed)
	}
	src, dir := s.opened(t)
	path := filepath.Join(dir, "chunks.gguf")
	if err := Create(context.Background(), path, src, blobs, CreateOptions{Layout: LayoutPacked, keepBlobs: true}); err != nil {
		t.Fatal(err)
	}
	return path
}

// vectorRows describes the pruned tensors of the vectors.
func vectorRows(t *testing.T, files []string) (rows []string) {
	plain, packed := mustOpen(t, files[0]), mustOpen(t, files[1])
	for k, e := range plain.entries {
		if i, p := e.info, packed.entries[k].info; e.blob != nil {
			rows = append(rows, fmt.Sprintf("| `%s` | `%v` | %d × %d | %d | %d | %d | `%016x` | %d | `%016x` | `%016x` |", i.Name, i.Coding,
				i.Rows(), i.Cols(), i.Group, i.Survivors, i.BlobBytes, i.BlobSum, p.BlobBytes, p.BlobSum, i.ExpandedSum))
		}
	}
	return rows
}

// checkSpecRows compares the table in SPEC.md whose header line begins with
// head, or puts it right.
func checkSpecRows(t *testing.T, head string, want []string) {
	t.Helper()
	lines := strings.Split(string(mustRead(t, "SPEC.md")), "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, head) })
	if at < 0 {
		t.Fatalf("SPEC.md has no table %q", head)
	}
	end := at + 2
	for end < len(lines) && strings.HasPrefix(lines[end], "|") {
		end++
	}
	if *update {
		text := strings.Join(slices.Replace(lines, at+2, end, want...), "\n")
		if err := os.WriteFile("SPEC.md", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	compareLines(t, head, lines[at+2:end], want)
}

func sha(t *testing.T, path string) string {
	t.Helper()
	return fmt.Sprintf("%x", sha256.Sum256(mustRead(t, path)))
}

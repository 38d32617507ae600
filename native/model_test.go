package native_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/assets"
	"besa/internal/demomodel"
	"besa/internal/llama"
	"besa/native"
	"besa/sparsefmt"
)

// The plugin joins llama.cpp once per process, and environment variables decide
// how. So each run of a model is a process of its own: this test binary again,
// with a job in the environment.
func init() { native.Child = child }

type job struct {
	Library string // folder of libllama
	Models  []string
	Threads int
	Cycles  int // load and free the first model so often, beforehand
	Options *options
}

type result struct {
	Logits []float32 // of the last model
	Equal  bool      // several contexts of several models at once gave what each gave alone
	RSS    []int64   // resident bytes after each cycle
	Sparse int       // tensors of the last model that the plugin executes
}

func child() int {
	var j job
	err := json.Unmarshal([]byte(os.Getenv(native.ChildVariable)), &j)
	if err == nil {
		var r result
		if r, err = j.run(); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(r)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (j job) run() (r result, err error) {
	for range j.Cycles {
		m, err := llama.Load(context.Background(), j.Models[0], llama.Options{Library: j.Library})
		if err != nil {
			return r, err
		}
		if _, err := logits(m, j.Threads); err != nil {
			return r, err
		}
		if err := m.Close(); err != nil {
			return r, err
		}
		var pages, resident int64
		statm, _ := os.ReadFile("/proc/self/statm")
		fmt.Sscan(string(statm), &pages, &resident)
		r.RSS = append(r.RSS, resident*int64(os.Getpagesize()))
	}
	if j.Options != nil {
		return j.runWith(*j.Options)
	}
	var models []*llama.Model
	var alone [][]float32
	for _, path := range j.Models {
		m, err := llama.Load(context.Background(), path, llama.Options{Library: j.Library})
		if err != nil {
			return r, err
		}
		defer m.Close()
		models = append(models, m)
		l, err := logits(m, j.Threads)
		if err != nil {
			return r, err
		}
		alone = append(alone, l)
		_, _, r.Sparse = m.Sparse()
	}
	r.Logits, r.Equal = alone[len(alone)-1], true
	const contexts = 2 // of each model, at once
	together, errs := make([][]float32, contexts*len(models)), make(chan error)
	for i := range together {
		go func() {
			var err error
			together[i], err = logits(models[i/contexts], j.Threads)
			errs <- err
		}()
	}
	for range together {
		if e := <-errs; e != nil {
			err = e
		}
	}
	for i := range together {
		r.Equal = r.Equal && slices.Equal(alone[i/contexts], together[i])
	}
	return r, err
}

// logits of a text: its first half as one batch, the rest token by token.
func logits(m *llama.Model, threads int) ([]float32, error) {
	ids, err := m.Tokenize("In the beginning God created the heaven and the earth. And the earth was without form, and void", true, false)
	if err != nil {
		return nil, err
	}
	c, err := m.NewContext(llama.ContextOptions{Tokens: 64, Sequences: 1, Threads: threads})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var all []float32
	for pos, n := 0, len(ids)/2; pos < len(ids); n = 1 {
		for range n {
			if err := c.Add(ids[pos], pos, 0, true); err != nil {
				return nil, err
			}
			pos++
		}
		if err := c.Decode(); err != nil {
			return nil, err
		}
		l, _, err := c.Logits()
		if err != nil {
			return nil, err
		}
		all = append(all, l...)
	}
	return all, nil
}

// runModel runs a job in a process of its own; env are further variables. It
// returns what the process wrote to stderr, too.
func runModel(t *testing.T, j job, env ...string) (result, string) {
	t.Helper()
	var r result
	spec, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), native.ChildVariable+"="+string(spec), "BESA_NATIVE=", "BESA_NATIVE_CPU="), env...)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", env, err, messages.String())
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r, messages.String()
}

// prunedDemo writes the tiny model with a random share of the blocks' weights
// pruned, in the type that a coding expands to.
func prunedDemo(t *testing.T, coding sparsefmt.Coding, sparsity float64) string {
	t.Helper()
	rnd := rand.New(rand.NewPCG(5, 5))
	return rewriteDemo(t, func(x *gguf.Tensor, w []float32) []byte {
		if strings.HasPrefix(x.Name, "blk.") && len(x.Shape) == 2 {
			for k := range w {
				if rnd.Float64() < sparsity {
					w[k] = 0
				}
			}
			x.Type = coding.Type()
		}
		return nil
	})
}

// rewriteDemo writes the tiny model with its tensors changed: change may set a
// tensor's type and weights, or return the data itself.
func rewriteDemo(t *testing.T, change func(x *gguf.Tensor, w []float32) []byte) string {
	t.Helper()
	dir := t.TempDir()
	path := demomodel.File(t)
	src, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var tensors []gguf.Tensor
	data := map[string][]byte{}
	for _, x := range src.Tensors() {
		to := gguf.Tensor{Name: x.Name, Type: x.Type, Shape: x.Shape}
		w := make([]float32, x.Elements())
		if err := src.ReadFloats(x, w); err != nil {
			t.Fatal(err)
		}
		d := change(&to, w)
		if d == nil {
			row := int(x.Shape[0])
			n, err := to.Type.RowBytes(uint64(row))
			if err != nil {
				t.Fatal(err)
			}
			d = make([]byte, len(w)/row*int(n))
			for r := range len(w) / row {
				if err := gguf.Quantize(to.Type, d[r*int(n):(r+1)*int(n)], w[r*row:(r+1)*row]); err != nil {
					t.Fatal(err)
				}
			}
		}
		data[x.Name] = d
		tensors = append(tensors, to)
	}
	out := filepath.Join(dir, "pruned.gguf")
	w, err := gguf.Create(out, src.KVs(), tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, x := range tensors {
		if err := w.WriteTensor(x.Name, data[x.Name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return out
}

// plugin returns the variable that makes llama.cpp load the plugin.
func plugin(t *testing.T) string {
	return "GGML_BACKEND_PATH=" + native.PluginForTests(t)
}

// Every route and every type gives stock's logits, up to what other orders of
// summation and another rounding of activations do; with one thread and with two.
func TestModels(t *testing.T) {
	lib := assets.Path(t, assets.Llama)
	with := plugin(t)
	for _, coding := range native.Codings {
		sparsities := []float64{0.5}
		if coding == sparsefmt.CodingQ4Sym || coding == sparsefmt.CodingF16 {
			sparsities = append(sparsities, 0) // left to stock, in its repacked form or as it is
		}
		for _, sparsity := range sparsities {
			model := prunedDemo(t, coding, sparsity)
			stock, _ := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1})
			for _, route := range []string{"extra", "accel"} {
				for threads := 1; threads == 1 || threads == 2 && coding == sparsefmt.CodingQ4Sym; threads++ {
					name := fmt.Sprintf("%v/%g/%s/%d", coding, sparsity, route, threads)
					got, messages := runModel(t, job{Library: lib, Models: []string{model}, Threads: threads}, with, "BESA_NATIVE="+route)
					d := native.Distance(got.Logits, stock.Logits)
					t.Logf("%s: distance of logits %.2g", name, d)
					if len(got.Logits) != len(stock.Logits) || !(d < 0.01) {
						t.Errorf("%s: %d logits, distance %g", name, len(got.Logits), d)
					}
					if strings.Contains(messages, "besa:") {
						t.Errorf("%s: %s", name, messages)
					}
				}
			}
		}
	}
}

// Where the plugin has to step back llama.cpp runs as if it were not there,
// with one line on stderr that says why.
func TestStepsBack(t *testing.T) {
	lib := assets.Path(t, assets.Llama)
	with := plugin(t)
	model := prunedDemo(t, sparsefmt.CodingQ4Sym, 0.5)
	stock, _ := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1})
	for env, line := range map[string]string{
		"BESA_NATIVE=off":      "besa: native execution is off: BESA_NATIVE=off\n",
		"BESA_NATIVE=on":       "besa: native execution is off: BESA_NATIVE is none of extra, accel and off\n",
		"BESA_NATIVE_CPU=none": "besa: native execution is off: no AVX-512 VBMI2\n",
	} {
		got, messages := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1}, with, env)
		if !slices.Equal(got.Logits, stock.Logits) {
			t.Errorf("%s: other logits than without the plugin", env)
		}
		if messages != line {
			t.Errorf("%s: stderr is %q", env, messages)
		}
	}
}

// Several models and contexts at once do not disturb one another, and loading
// and freeing a model a hundred times leaves nothing behind.
func TestModelsComeAndGo(t *testing.T) {
	if testing.Short() {
		t.Skip("300 loads of a model")
	}
	lib := assets.Path(t, assets.Llama)
	with := plugin(t)
	models := []string{prunedDemo(t, sparsefmt.CodingQ4Sym, 0.5), prunedDemo(t, sparsefmt.CodingBF16, 0.4), prunedDemo(t, sparsefmt.CodingQ4Sym, 0)}
	var stock int64 // llama.cpp and its binding keep some bytes of every model
	for _, route := range []string{"off", "extra", "accel"} {
		r, _ := runModel(t, job{Library: lib, Models: models, Threads: 1, Cycles: 100}, with, "BESA_NATIVE="+route)
		if !r.Equal {
			t.Errorf("%s: models at once differ from models alone", route)
		}
		grown := slices.Min(r.RSS[80:]) - slices.Max(r.RSS[10:30])
		t.Logf("%s: resident memory grew by %d KiB in 70 cycles", route, grown>>10)
		if route == "off" {
			stock = grown
		} else if grown > stock+2<<20 {
			t.Errorf("%s: resident memory grew by %d KiB in 70 cycles, %d KiB without the plugin", route, grown>>10, stock>>10)
		}
	}
}

package native_test

import (
	"slices"
	"strings"
	"testing"

	"besa/internal/assets"
	"besa/native"
	"besa/sparsefmt"
)

// A llama.cpp that is not the one the plugin was written for, whatever differs,
// is left alone with one line on stderr, and gives its own logits. Here it is
// the plugin that is written for another one.
func TestOtherABI(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the plugin many times over")
	}
	lib := assets.Path(t, assets.Llama)
	native.PluginForTests(t) // or skips
	type changes = []native.Change
	abi := func(old, new string) native.Change { return native.Change{File: "ggml_abi.h", Old: old, New: new} }
	tensor := abi("sizeof(struct ggml_tensor) == 336", "sizeof(struct ggml_tensor) > 0")
	plugins := native.Altered(t, map[string]changes{
		"backend API version":      {abi("GGML_BACKEND_API_VERSION 2", "GGML_BACKEND_API_VERSION 6")},
		"size of tensors":          {tensor, abi("    int32_t flags;\n", "    int32_t flags, more[2];\n")},
		"order in tensors":         {abi("    int64_t ne[4]; /* elements */\n    size_t nb[4];", "    size_t nb[4];\n    int64_t ne[4]; //")},
		"type numbers":             {abi("TYPE_Q4_0 = 2", "TYPE_Q4_0 = 3")},
		"layout of buffers":        {abi("    void *context;\n    size_t size;\n    int32_t usage;", "    void *context;\n    int32_t usage;\n    size_t size;")},
		"functions of buffers":     {abi("    void *(*get_base)(struct ggml_buffer *);\n", "    void (*more)(void);\n    void *(*get_base)(struct ggml_buffer *);\n")},
		"missing function":         {{File: "plugin.c", Old: `"ggml_backend_buffer_init"`, New: `"ggml_backend_buffer_begin"`}},
		"extra: virtual functions": {{File: "plugin.c", Old: `extra_buffer_typeE", 4)`, New: `extra_buffer_typeE", 5)`}},
		"extra: missing function":  {{File: "plugin.c", Old: `"ggml_barrier"`, New: `"ggml_barricade"`}},
		"extra: list of types":     {abi("**begin, **end, **capacity", "**end, **begin, **capacity")},
		"extra: devices of types":  {abi("    struct ggml_dev *device;\n    void *context;\n};\n\nstruct ggml_buffer_iface", "    void *context;\n    struct ggml_dev *device;\n};\n\nstruct ggml_buffer_iface")},
		"accel: functions of devices": {abi("    struct ggml_buft *(*get_buffer_type)(struct ggml_dev *);\n    struct ggml_buft *(*get_host_buffer_type)(struct ggml_dev *);",
			"    struct ggml_buft *(*get_host_buffer_type)(struct ggml_dev *);\n    struct ggml_buft *(*get_buffer_type)(struct ggml_dev *);")},
		"accel: missing function": {{File: "plugin.c", Old: `"ggml_custom_4d"`, New: `"ggml_custom_5d"`}},
	})
	model := prunedDemo(t, sparsefmt.CodingQ4Sym, 0.5)
	stock, _ := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1})
	for name, path := range plugins {
		routes := []string{"extra", "accel"}
		if route, _, only := strings.Cut(name, ": "); only {
			routes = []string{route}
		}
		for _, route := range routes {
			got, messages := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1}, "GGML_BACKEND_PATH="+path, "BESA_NATIVE="+route)
			if !slices.Equal(got.Logits, stock.Logits) || got.Sparse != 0 {
				t.Errorf("%s, %s: %d sparse tensors, distance of logits %g", name, route, got.Sparse, native.Distance(got.Logits, stock.Logits))
			}
			const line = "besa: native execution is off: this llama.cpp is not supported, "
			if !strings.HasPrefix(messages, line) || strings.Count(messages, "\n") != 1 {
				t.Errorf("%s, %s: stderr is %q", name, route, messages)
			} else {
				t.Logf("%s, %s: %s", name, route, strings.TrimSpace(strings.TrimPrefix(messages, line)))
			}
		}
	}
}

package convert

import (
	"errors"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"

	"besa/gguf"
	"besa/internal/kernel"
)

func TestAvailableMemory(t *testing.T) {
	const mem = "MemTotal:       16384 kB\nMemFree:  1 kB\n"
	for name, tc := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"not Linux": {nil, 0},
		"no groups": {map[string]string{"proc/meminfo": mem}, 16 << 20},
		"version 2": {map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "8388608\n"}, 8 << 20},
		"version 2, parent": {map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "4194304\n"}, 4 << 20},
		"version 2, container": {map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/memory.max": "2097152\n"}, 2 << 20},
		"version 1": {map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "5:cpu,cpuacct:/c\n4:memory:/m\n",
			"sys/fs/cgroup/memory/m/memory.limit_in_bytes": "3145728\n"}, 3 << 20},
		"version 1, no limit": {map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "4:memory:/m\n",
			"sys/fs/cgroup/memory/m/memory.limit_in_bytes": "9223372036854771712\n"}, 16 << 20},
		"rubbish": {map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "::\nx\n0\n"}, 16 << 20},
	} {
		root := fstest.MapFS{}
		for path, text := range tc.files {
			root[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := availableMemory(root); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	if runtime.GOOS == "linux" && availableMemory(os.DirFS("/")) <= 0 {
		t.Error("nothing is known of this machine")
	}
}

func TestFit(t *testing.T) {
	for _, tc := range []struct{ limit, block, activations, spill int64 }{
		{1000, 400, 400, 0}, {1000, 400, 500, 500}, {1000, 888, 2, 2}, {1000, 888, 0, 0},
	} {
		b := Budget{Limit: tc.limit, Block: tc.block, Activations: tc.activations}
		if err := b.fit(); err != nil || b.Spill != tc.spill || b.Peak > b.Limit || b.Peak < b.Block {
			t.Errorf("%+v: %+v, %v", tc, b, err)
		}
	}
	b := Budget{Limit: 1000, Block: 900}
	if err := b.fit(); !errors.Is(err, ErrMemory) {
		t.Errorf("a block that does not fit: %v", err)
	}
}

func TestLimitHeap(t *testing.T) {
	old := debug.SetMemoryLimit(-1)
	restore := limitHeap(1 << 40)
	if now := debug.SetMemoryLimit(-1); now >= 1<<40 || now < 1<<39 {
		t.Errorf("limit %d", now)
	}
	restore()
	if now := debug.SetMemoryLimit(-1); now != old {
		t.Errorf("limit %d afterwards, %d before", now, old)
	}
}

func TestWindows(t *testing.T) {
	const count, tokens, hidden = 3, 4, 5
	for name, w := range map[string]interface {
		Load(int) (kernel.Mat[float32], error)
		Store(int, kernel.Mat[float32]) error
	}{
		"in memory": &memoryWindows{count, tokens, hidden, make([]float32, count*tokens*hidden)},
		"stored":    newStoredWindows(make(memory, 1<<10), 7*4, count, tokens, hidden, ActivationsFP32),
		"halved":    newStoredWindows(make(memory, 1<<10), 7*4, count, tokens, hidden, ActivationsBF16),
	} {
		value := func(i, j int) float32 {
			v := float32(i*100+j) + 1.0/3
			if name == "halved" {
				return gguf.BF16ToF32(gguf.F32ToBF16(v))
			}
			return v
		}
		for i := range count {
			m := kernel.NewMat[float32](tokens, hidden)
			for j := range m.Data {
				m.Data[j] = float32(i*100+j) + 1.0/3
			}
			if err := w.Store(i, m); err != nil {
				t.Fatal(err)
			}
		}
		for i := range count {
			m, err := w.Load(i)
			if err != nil {
				t.Fatal(err)
			}
			for j, v := range m.Data[:tokens*hidden] {
				if v != value(i, j) || math.IsNaN(float64(v)) {
					t.Fatalf("%s: window %d holds %g at %d, want %g", name, i, v, j, value(i, j))
				}
			}
		}
	}
}

func TestUsageIsMeasured(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("anonymous memory is known on Linux only")
	}
	m := startUsageMeter()
	defer m.close()
	block := make([]byte, 64<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	resident, anonymous := m.peaks()
	runtime.KeepAlive(block)
	if anonymous < 64<<20 || resident < anonymous {
		t.Errorf("%d bytes resident, %d anonymous, after touching %d", resident, anonymous, len(block))
	}
}

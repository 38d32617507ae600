package llama

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/ebitengine/purego"
	yzma "github.com/hybridgroup/yzma/pkg/llama"
	"github.com/hybridgroup/yzma/pkg/utils"

	_ "besa/internal/libffi" // says so clearly where libffi is missing
)

// library is the process's one libllama: it cannot be unloaded or replaced.
var library struct {
	sync.Mutex
	dir    string // "" before the first load
	log    logbook
	plugin *plugin // nil: none
	native string  // see [NativeKernel]
}

// openLibrary loads libllama from a folder, once, and the native plugin with it.
func openLibrary(dir string, n Native) error {
	library.Lock()
	defer library.Unlock()
	switch library.dir {
	case dir:
		return nil
	case "":
	default:
		return fmt.Errorf("llama.cpp is already loaded from %s; a process can use one library only", library.dir)
	}
	plugin, err := n.choose()
	if err != nil {
		return err
	}
	tidyC()
	if err := yzma.Load(dir); err != nil {
		return fmt.Errorf("%w: load llama.cpp from %s: %w (besa needs libllama 0.5.0 or a release close to it)", ErrNoLibrary, dir, err)
	}
	if err := loadFilePtr(dir); err != nil {
		return fmt.Errorf("%w: load llama.cpp from %s: %w", ErrNoLibrary, dir, err)
	}
	yzma.LogSet(purego.NewCallback(library.log.callback))
	yzma.Init()
	if yzma.GGMLBackendDeviceCount() == 0 {
		return fmt.Errorf("%w: load llama.cpp from %s: it has no backend for this processor", ErrNoLibrary, dir)
	}
	if err := n.start(dir, plugin); err != nil {
		return err
	}
	library.dir = dir
	return nil
}

// logbook receives what llama.cpp logs, from any of its threads. It keeps the
// latest errors, to explain a failed call, and copies all to a writer if there
// is one.
type logbook struct {
	mu     sync.Mutex
	out    io.Writer
	errors []string
	level  int32
}

// Log levels of ggml.
const (
	ggmlError    = 4
	ggmlContinue = 5
)

// maxErrors bounds how many error lines are kept.
const maxErrors = 16

func (l *logbook) callback(level int32, text *byte, _ uintptr) uintptr {
	l.mu.Lock()
	defer l.mu.Unlock()
	message := utils.BytePtrToString(text)
	if l.out != nil {
		_, _ = io.WriteString(l.out, message)
	}
	continues := level == ggmlContinue
	if continues {
		level = l.level
	}
	l.level = level
	if level != ggmlError {
		return 0
	}
	if n := len(l.errors); continues && n > 0 {
		l.errors[n-1] += message
	} else if n < maxErrors {
		l.errors = append(l.errors, message)
	}
	return 0
}

// forget drops earlier errors.
func (l *logbook) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors = nil
}

// copyTo sets where the log goes; nil silences it.
func (l *logbook) copyTo(out io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = out
}

// explain adds to an error what llama.cpp logged last about it.
func (l *logbook) explain(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.errors) - 1; i >= 0; i-- {
		line := strings.TrimSpace(l.errors[i])
		// The last words of llama.cpp repeat that loading failed, not why.
		if line == "" || i > 0 && strings.HasSuffix(line, "failed to load model") {
			continue
		}
		return fmt.Errorf("%w: llama.cpp says %q", err, line)
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"besa/internal/llama"
	"besa/native"
)

// nativeStatus is what besa native status --json prints.
type nativeStatus struct {
	Plugin    string `json:"plugin"`
	Installed bool   `json:"installed"`
	Version   string `json:"version"` // of the sources the installed plugin was built from; "" unknown
	Current   bool   `json:"current"` // Version is this besa's
	Library   string `json:"llama_lib"`
	Active    bool   `json:"active"`
	Kernel    string `json:"kernel"` // or why it is off
}

func newNative(std streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "native",
		Short: "install the plugin that executes sparse weights in llama.cpp",
		Long: `Native installs and describes libggml-besa.so, a ggml backend plugin: with it the
pruned tensors of a model stay sparse in memory and are multiplied sparse, in an
unmodified llama.cpp. It is for Linux on x86-64 with AVX-512 VBMI2; elsewhere
llama.cpp runs as if it were not there. besa run and besa serve find the installed
plugin by themselves; other llama.cpp apps find it through GGML_BACKEND_PATH.`,
		Example: `  besa native install
  eval "$(besa native install --quiet)" && llama-bench -m model-S50-Q4_0.gguf
  besa native status`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newNativeInstall(std), newNativePath(std), newNativeStatus(std))
	return c
}

func newNativeInstall(std streams) *cobra.Command {
	var from string
	var quiet bool
	c := &cobra.Command{
		Use:   "install",
		Short: "build the plugin, or take a built one, and print the line to export",
		Long: `Install builds the plugin with the C compiler ($CC, cc, gcc or clang) from sources
inside besa, or takes the file --from, and puts it into besa's cache. It replaces an
older one. On stdout comes the line that tells llama.cpp apps of it.`,
		Example: `  besa native install
  besa native install --from libggml-besa.so
  CC=clang besa native install`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return installNative(c.Context(), std, from, quiet)
		},
	}
	c.Flags().StringVar(&from, "from", "", "a libggml-besa.so built before")
	c.Flags().BoolVar(&quiet, "quiet", false, "nothing but the line to export")
	return c
}

func installNative(ctx context.Context, std streams, from string, quiet bool) error {
	path, err := native.Install(ctx, from)
	if err != nil {
		return err
	}
	if !quiet {
		version, err := native.BuiltFrom(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.err, "installed %s (version %s)\n", path, orUnknown(version))
		fmt.Fprintln(std.err, "besa run and besa serve use it by themselves; for other llama.cpp apps:")
	}
	_, err = fmt.Fprintf(std.out, "export GGML_BACKEND_PATH=%s\n", shellQuote(path))
	return err
}

func newNativePath(std streams) *cobra.Command {
	return &cobra.Command{
		Use:     "path",
		Short:   "print where the installed plugin lies",
		Example: `  GGML_BACKEND_PATH=$(besa native path) llama-bench -m model-S50-Q4_0.gguf`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, err := native.Path()
			if err != nil {
				return err
			}
			if _, err := native.BuiltFrom(path); errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%w: the plugin is not installed; besa native install does it", llama.ErrNoNative)
			} else if err != nil {
				return err
			}
			_, err = fmt.Fprintln(std.out, path)
			return err
		},
	}
}

func newNativeStatus(std streams) *cobra.Command {
	var library string
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "tell whether the plugin is installed and llama.cpp runs it",
		Long: `Status loads llama.cpp with the plugin and says whether sparse weights would be
executed natively, and if not, why. Then the exit code is 1.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return showNative(std, library, asJSON)
		},
	}
	c.Flags().StringVar(&library, "llama-lib", "", "folder or file of libllama (default: $BESA_LLAMA_LIB, the cache, system paths)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON")
	return c
}

func showNative(std streams, library string, asJSON bool) error {
	s, err := statusOfNative(library)
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(std.out, s)
	} else {
		err = s.print(std.out)
	}
	if err == nil && !s.Active {
		return errCheckFailed
	}
	return err
}

func statusOfNative(library string) (s nativeStatus, err error) {
	if s.Plugin, err = native.Path(); err != nil {
		return s, err
	}
	switch s.Version, err = native.BuiltFrom(s.Plugin); {
	case err == nil:
		s.Installed, s.Current = true, s.Version == native.Version()
	case !errors.Is(err, os.ErrNotExist):
		return s, err
	}
	s.Library, s.Kernel, err = llama.ProbeNative(library)
	s.Active = err == nil && !strings.HasPrefix(s.Kernel, "off")
	return s, err
}

// print writes the status for people.
func (s *nativeStatus) print(w io.Writer) error {
	plugin := "not installed"
	if s.Installed {
		plugin = fmt.Sprintf("%s (version %s)", s.Plugin, orUnknown(s.Version))
		if !s.Current {
			plugin += fmt.Sprintf("; this besa's is %s: besa native install", native.Version())
		}
	}
	_, err := fmt.Fprintf(w, "plugin:    %s\nllama.cpp: %s\nnative:    %s\n", plugin, s.Library, s.Kernel)
	return err
}

func orUnknown(version string) string {
	if version == "" {
		return "unknown"
	}
	return version
}

// shellQuote makes a word that every shell reads back.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

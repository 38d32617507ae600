package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// The rules of the terminal, for every command: results go to stdout; progress
// and messages go to stderr. A bar is drawn only where stderr is a terminal
// that is not dumb; elsewhere, and with NO_COLOR set, plain lines appear at
// most every few seconds.

// progress shows how far a long job is, with the time left.
type progress struct {
	out     io.Writer
	label   string
	bar     *progressbar.ProgressBar // nil: plain lines
	started time.Time
	last    time.Time
	every   time.Duration
	quiet   bool
}

const barSteps = 10000

// newProgress starts a progress display for one job.
func newProgress(out io.Writer, label string, quiet bool) *progress {
	p := &progress{out: out, label: label, started: time.Now(), every: 5 * time.Second, quiet: quiet}
	p.last = p.started
	if f, ok := out.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == "" {
		p.bar = progressbar.NewOptions(barSteps,
			progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(label), progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth())
	}
	return p
}

// update shows a finished fraction in [0, 1] and a detail.
func (p *progress) update(done float64, detail string) {
	if p.quiet {
		return
	}
	if p.bar != nil {
		p.bar.Describe(p.label + " " + detail)
		_ = p.bar.Set(int(done * barSteps)) // the bar has nothing useful to say about its own errors
		return
	}
	now := time.Now()
	if now.Sub(p.last) < p.every {
		return
	}
	p.last = now
	fmt.Fprintf(p.out, "%s: %.0f %%, %s left%s\n", p.label, 100*done, p.left(done, now), prefixed(", ", detail))
}

// left estimates the remaining time.
func (p *progress) left(done float64, now time.Time) time.Duration {
	if done <= 0 {
		return 0
	}
	elapsed := now.Sub(p.started)
	return (time.Duration(float64(elapsed)/done) - elapsed).Round(time.Second)
}

// message prints a line for the user above the bar.
func (p *progress) message(text string) {
	if p.quiet {
		return
	}
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintln(p.out, text)
}

// finish removes the bar.
func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// size writes a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v /= 1024
		u++
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}

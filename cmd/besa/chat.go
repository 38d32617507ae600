package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"besa/internal/generate"
	"besa/internal/llama"
)

// converse answers one line after the other. An interrupt ends an answer; one
// that comes before the first is over, or while no answer is under way, ends the
// conversation. A conversation that fills the context ends too.
func (r *runner) converse(ctx context.Context) error {
	if _, err := r.model.ChatPrompt(r.o.template, r.messages("")); err != nil {
		return err
	}
	// The first interrupt has ended ctx for good; from here on they are counted
	// answer by answer.
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)

	lines, failed := readLines(r.std.in)
	var messages []llama.Message
	for {
		if isTerminal(r.std.in) {
			fmt.Fprint(r.std.err, "> ")
		}
		var line string
		select {
		case <-interrupts:
			return context.Canceled
		case next, ok := <-lines:
			if !ok {
				return <-failed
			}
			line = next
		}
		if line == "" {
			continue
		}
		if messages == nil {
			messages = r.messages(line)
		} else {
			messages = append(messages, llama.Message{Role: "user", Content: line})
		}
		answer, err := r.turn(ctx, messages, interrupts)
		if err != nil {
			return err
		}
		messages = append(messages, llama.Message{Role: "assistant", Content: answer})
	}
}

// turn generates one answer.
func (r *runner) turn(ctx context.Context, messages []llama.Message, interrupts <-chan os.Signal) (string, error) {
	prompt, err := r.model.ChatPrompt(r.o.template, messages)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over, watched := make(chan struct{}), make(chan struct{})
	second := false
	go func() {
		defer close(watched)
		select {
		case <-interrupts:
			cancel()
		case <-over:
			return
		}
		select {
		case <-interrupts:
			second = true
		case <-over:
		}
	}()
	answer, result, err := r.generate(ctx, prompt, true)
	close(over)
	<-watched
	if errors.Is(err, generate.ErrTooLong) {
		return "", fmt.Errorf("the conversation fills the context of %d tokens: begin another, or a larger one with --ctx-size", r.engine.Context())
	}
	if err != nil && result.Finish != generate.FinishCancel {
		return "", err
	}
	fmt.Fprintln(r.std.out)
	r.timing(result)
	if second {
		return "", context.Canceled
	}
	return answer, nil
}

// readLines hands out lines until the input ends; then the other channel has
// the error, nil at a regular end.
func readLines(in io.Reader) (<-chan string, <-chan error) {
	lines, failed := make(chan string), make(chan error, 1)
	go func() {
		s := bufio.NewScanner(in)
		s.Buffer(nil, maxPrompt)
		for s.Scan() {
			lines <- s.Text()
		}
		failed <- s.Err()
		close(lines)
	}()
	return lines, failed
}

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// choiceValue is a flag with a fixed set of values.
type choiceValue[T ~string] struct {
	value *T
	have  []T
}

// choice adds a flag whose value is one of have; v holds the default.
func choice[T ~string](f *pflag.FlagSet, v *T, name, usage string, have []T) {
	c := &choiceValue[T]{v, have}
	f.Var(c, name, fmt.Sprintf("%s: %s", usage, c.list()))
}

func (c *choiceValue[T]) list() string {
	names := make([]string, len(c.have))
	for i, v := range c.have {
		names[i] = string(v)
	}
	return strings.Join(names, ", ")
}

func (c *choiceValue[T]) Set(s string) error {
	if !slices.Contains(c.have, T(s)) {
		return fmt.Errorf("have %s", c.list())
	}
	*c.value = T(s)
	return nil
}

func (c *choiceValue[T]) String() string { return string(*c.value) }
func (c *choiceValue[T]) Type() string   { return "name" }

package sparsefmt

import (
	"fmt"
	"io"
	"slices"
)

// Report is what Verify did.
type Report struct {
	Path          string    `json:"path"`
	Bytes         int64     `json:"file_bytes"`
	Tensors       int       `json:"tensors"`
	SparseTensors int       `json:"sparse_tensors"`
	Checks        []Check   `json:"checks"`   // by rule
	Failures      []Failure `json:"failures"` // in the order found
}

// Check says how often a rule was applied, to files or tensors.
type Check struct {
	Rule   Rule   `json:"rule"`
	Text   string `json:"text"`
	Count  int    `json:"count"`
	Failed int    `json:"failed"`
}

// Failure is one violation of a rule.
type Failure struct {
	Rule   Rule   `json:"rule"`
	Tensor string `json:"tensor,omitempty"` // empty when it is about the file
	Detail string `json:"detail"`
}

// OK reports whether something was checked and nothing failed.
func (r Report) OK() bool { return len(r.Checks) > 0 && len(r.Failures) == 0 }

// MarshalText writes rules as "R7" in JSON.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r *Report) count(rule Rule, failed bool) {
	i, ok := slices.BinarySearchFunc(r.Checks, rule, func(c Check, rule Rule) int { return int(c.Rule - rule) })
	if !ok {
		r.Checks = slices.Insert(r.Checks, i, Check{Rule: rule, Text: ruleTexts[rule]})
	}
	r.Checks[i].Count++
	if failed {
		r.Checks[i].Failed++
	}
}

// WriteText prints the report for people: one line per rule, then one line
// per failure.
func (r Report) WriteText(w io.Writer) error {
	for _, c := range r.Checks {
		state := "ok"
		if c.Failed > 0 {
			state = fmt.Sprintf("%d FAILED", c.Failed)
		}
		if _, err := fmt.Fprintf(w, "%-4v %-70s %5d  %s\n", c.Rule, c.Text, c.Count, state); err != nil {
			return err
		}
	}
	for _, f := range r.Failures {
		name := ""
		if f.Tensor != "" {
			name = fmt.Sprintf("tensor %q: ", f.Tensor)
		}
		if _, err := fmt.Fprintf(w, "%v: %s%s\n", f.Rule, name, f.Detail); err != nil {
			return err
		}
	}
	return nil
}

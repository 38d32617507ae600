package sparsefmt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"besa/gguf"
)

// Verify checks a sparse GGUF against every rule of the specification; a file
// that passes has not a bit other than Create wrote. The report lists what was
// checked, all failures included.
//
// The error is nil only when the file passed. It is an ErrMalformed,
// ErrChecksum or ErrVersion when the file failed (the first failure),
// ErrNotSparse for an ordinary GGUF, and whatever stopped the check otherwise:
// then the report is incomplete.
func Verify(ctx context.Context, path string) (Report, error) {
	v := verifier{ctx: ctx, report: Report{Path: path}}
	err := v.run(path)
	if err == nil {
		err = v.first
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return v.report, err
}

type verifier struct {
	ctx    context.Context
	report Report
	first  error // the first failure
}

// check counts one application of a rule, and records err if that is a
// violation. Any other error is returned: it ends the check.
func (v *verifier) check(rule Rule, tensor string, err error) error {
	var re *RuleError
	if err != nil && !errors.As(err, &re) {
		return err
	}
	if re != nil {
		rule = re.Rule
		v.report.Failures = append(v.report.Failures, Failure{Rule: rule, Tensor: tensor, Detail: re.Detail})
		if v.first == nil {
			v.first = inTensor(tensor, err)
		}
	}
	v.report.count(rule, re != nil)
	return nil
}

func (v *verifier) run(path string) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	g, err := gguf.Open(path)
	if isContainerError(err) {
		return v.check(RuleContainer, "", &RuleError{Rule: RuleContainer, Detail: err.Error(), Err: ErrMalformed})
	}
	if err != nil {
		return err
	}
	defer g.Close()
	if !IsSparse(g) {
		_, err := checkKeys(g)
		return err
	}
	v.report.Bytes = g.Size()
	f, err := load(g)
	if err != nil {
		return v.check(RuleContainer, tensorOf(err), err)
	}
	v.opened(f)
	if err := v.check(RuleHeaderSum, "", checkHeaderSum(g)); err != nil {
		return err
	}
	for _, part := range g.Parts() {
		if err := v.padding(part); err != nil {
			return err
		}
	}
	for i := range f.entries {
		if err := gguf.GuardFault(func() error { return v.tensor(f, &f.entries[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// isContainerError tells a broken GGUF from one that cannot be read.
func isContainerError(err error) bool {
	for _, e := range []error{gguf.ErrNotGGUF, gguf.ErrVersion, gguf.ErrTruncated, gguf.ErrMalformed, gguf.ErrUnsupportedType} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func tensorOf(err error) string {
	var re *RuleError
	if errors.As(err, &re) {
		return re.Tensor
	}
	return ""
}

// opened counts the rules that load has applied.
func (v *verifier) opened(f *File) {
	for _, r := range []Rule{RuleContainer, RuleVersion, RuleLayout, RuleKeys, RuleDenseTable} {
		v.report.count(r, false)
	}
	v.report.Tensors = len(f.entries)
	for i := range f.entries {
		if f.entries[i].blob != nil {
			v.report.SparseTensors++
			for _, r := range []Rule{RuleNames, RuleShape, RuleBlobHeader} {
				v.report.count(r, false)
			}
		}
	}
}

// padding checks the bytes after each tensor and the length of one file.
func (v *verifier) padding(g *gguf.File) error {
	raw, err := os.Open(g.Path())
	if err != nil {
		return err
	}
	defer raw.Close()
	end := int64(g.DataOffset())
	for _, t := range g.Tensors() {
		end = int64(g.DataOffset() + t.Offset + t.Bytes)
		pad := make([]byte, padding(t.Bytes, g.Alignment()))
		n, err := raw.ReadAt(pad, end)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		err = nil
		if i := firstNonZero(pad[:n]); i >= 0 {
			err = broken(RulePadding, "byte %d, padding after the tensor, is %#02x", end+int64(i), pad[i])
		}
		if err := v.check(RulePadding, t.Name, err); err != nil {
			return err
		}
		end += int64(len(pad))
	}
	err = nil
	if g.Size() != end {
		err = broken(RulePadding, "the file has %d bytes, its tensors end at %d", g.Size(), end)
	}
	return v.check(RulePadding, "", err)
}

// tensor checks everything about the contents of one tensor.
func (v *verifier) tensor(f *File, e *entry) error {
	sum, err := hashBytes(v.ctx, f.g.Data(e.stored))
	if err != nil {
		return err
	}
	if e.blob == nil {
		return v.check(RuleDenseSum, e.name(), compare(RuleDenseSum, sum, e.sum))
	}
	if err := v.check(RuleBlobSum, e.name(), compare(RuleBlobSum, sum, e.info.BlobSum)); err != nil {
		return err
	}
	inside := e.blob.Check()
	if err := v.check(RuleTileOffsets, e.name(), inside); err != nil {
		return err
	}
	if inside != nil {
		return nil //nolint:nilerr // it is in the report, and its expansion means nothing
	}
	for _, r := range insideRules(e.info.Layout) {
		v.report.count(r, false)
	}
	if sum, err = expandedSum(v.ctx, e.blob); err != nil {
		return err
	}
	return v.check(RuleExpandedSum, e.name(), compare(RuleExpandedSum, sum, e.info.ExpandedSum))
}

// insideRules are the rules that Check has applied when it found nothing,
// besides R12.
func insideRules(l Layout) []Rule {
	rules := []Rule{RuleMaskTail, RuleTileLength, RuleSurvivors, RuleFinite, RuleZeroExact, RuleUnusedBits}
	if l == LayoutPacked {
		rules = append(rules, RuleChunkTable, RuleChunkSum, RuleSections, RuleClasses)
	}
	return rules
}

func compare(r Rule, got, want uint64) error {
	if got != want {
		return mismatch(r, got, want)
	}
	return nil
}

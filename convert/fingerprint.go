package convert

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/zeebo/xxh3"

	"besa/gguf"
	"besa/internal/kernel"
	"besa/internal/model"
)

// fingerprint is everything that a conversion's result depends on, by name.
// Two conversions with the same fingerprint write the same bytes.
type fingerprint []fact

// fact is one name and its value, as text.
type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// fingerprint describes the conversion; the calibration windows are planned.
func (r *runner) fingerprint() (fingerprint, error) {
	header, weights, err := modelHash(r.model.File())
	if err != nil {
		return nil, err
	}
	c := r.Calibration
	fp := fingerprint{
		{"version of besa", r.Version},
		{"kernel (BESA_KERNEL)", kernel.Implementation()},
		{"precision", string(r.Precision)},
		{"size of the model", fmt.Sprint(r.model.File().Size())},
		{"header of the model", header},
		{"weights of the model", weights},
		{"calibration text", r.textHash},
		{"sampling", string(r.sampling)},
		{"number of windows", fmt.Sprint(c.Samples)},
		{"tokens per window", fmt.Sprint(c.Len)},
		{"stride", fmt.Sprint(c.Stride)},
		{"seed", fmt.Sprint(c.Seed)},
		{"activations", string(r.Activations)},
		{"layout", r.Layout.String()},
		{"type of the head", r.Head},
		{"target sparsities", fmt.Sprintf("%v", r.Targets)},
	}
	// What the model writes follows from the rest; a plan must not wait for it.
	windows := fact{"calibration windows", r.windowsHash}
	if r.sampling == SamplingSelf {
		windows.Value = r.ownKey
	}
	fp = append(fp, windows, fact{"imatrix", r.imatrix.hash()})
	method := reflect.ValueOf(r.Method)
	for i := range method.NumField() {
		name := strings.ToLower(method.Type().Field(i).Name)
		fp = append(fp, fact{name, fmt.Sprintf("%+v", method.Field(i).Interface())})
	}
	return fp, nil
}

// ModelHash tells models apart: by the header, and by samples of every tensor.
func ModelHash(path string) (hash string, err error) {
	m, err := model.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	header, weights, err := modelHash(m.File())
	return header + weights, err
}

// modelHash hashes a model's header and, of every tensor's data, a few pages
// from its beginning to its end: enough to tell apart two models of the same
// shape, which differ everywhere, without reading the whole file.
func modelHash(f *gguf.File) (header, weights string, err error) {
	const pages, page = 8, 4096
	h := xxh3.New()
	_, _ = h.Write(gguf.AppendHeader(nil, f.KVs(), f.Tensors())) // a hash never fails
	header = fmt.Sprintf("%016x", h.Sum64())
	h.Reset()
	for _, t := range f.Tensors() {
		data := f.Data(t)
		err := gguf.GuardFault(func() error {
			if len(data) <= pages*page {
				_, _ = h.Write(data)
				return nil
			}
			for i := range pages {
				at := (len(data) - page) / (pages - 1) * i
				_, _ = h.Write(data[at : at+page])
			}
			return nil
		})
		f.Release(t)
		if err != nil {
			return "", "", fmt.Errorf("%s: tensor %q: %w", f.Path(), t.Name, err)
		}
	}
	return header, fmt.Sprintf("%016x", h.Sum64()), nil
}

// differences says where other, an earlier conversion, departs from fp; empty: nowhere.
func (fp fingerprint) differences(other fingerprint) string {
	then := map[string]string{}
	for _, f := range other {
		then[f.Name] = f.Value
	}
	var all []string
	for _, f := range fp {
		if was, ok := then[f.Name]; !ok || was != f.Value {
			all = append(all, difference(f, was))
		}
		delete(then, f.Name)
	}
	for name := range then { // an option that this version does not have
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

// difference shows short values and passes over hashes, which tell nobody anything.
func difference(now fact, was string) string {
	if len(now.Value) >= 16 || len(was) >= 16 {
		return now.Name
	}
	return fmt.Sprintf("%s (%s then, %s now)", now.Name, was, now.Value)
}

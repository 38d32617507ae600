package besa

import (
	"fmt"
	"slices"

	"besa/internal/kernel"
)

// Pattern constrains masks: of every M neighbours of a row, from its first
// column on, N survive (n:m sparsity); the zero value is unstructured.
//
// With M = 64 a mask word has the same number of survivors wherever it is, which
// is what a kernel can use: it knows where each word's survivors lie without
// counting those before.
type Pattern struct {
	N, M int
}

// String returns "2:4", or "" for unstructured sparsity.
func (n Pattern) String() string {
	if n.M == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d", n.N, n.M)
}

// Sparsity is the pruned share of every group; 0 if unstructured.
func (n Pattern) Sparsity() float64 { return float64(n.M-n.N) / float64(max(n.M, 1)) }

// ParsePattern reads "2:4"; "" is unstructured.
func ParsePattern(s string) (Pattern, error) {
	if s == "" {
		return Pattern{}, nil
	}
	var n Pattern
	var rest string
	if k, _ := fmt.Sscanf(s, "%d:%d%s", &n.N, &n.M, &rest); k != 2 || n.N < 1 || n.M <= n.N || n.M > maxPattern {
		return Pattern{}, fmt.Errorf("%w: mask shape %q; write survivors:group, as in 2:4 or 32:64, with groups of at most %d", ErrOptions, s, maxPattern)
	}
	return n, nil
}

const maxPattern = 64

// prune clears keep for all but the N most important of each M columns; of equals
// the earlier go first. A last, shorter group loses its share, rounded down.
func (n Pattern) prune(keep []bool, importance []float32) {
	var order [maxPattern]int
	for lo := 0; lo < len(keep); lo += n.M {
		group := order[:min(n.M, len(keep)-lo)]
		for i := range group {
			group[i] = lo + i
		}
		slices.SortStableFunc(group, func(a, b int) int {
			switch x, y := importance[a], importance[b]; {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		})
		for _, j := range group[:len(group)*(n.M-n.N)/n.M] {
			keep[j] = false
		}
	}
}

// selection is a mask in the form that the rest of the session works with: a
// ranking that has the pruned columns of each row first, and their number.
func selection(p *kernel.Pool, keep []bool, rows, cols int) (*Ranking, []int, error) {
	order := kernel.NewMat[float32](rows, cols)
	prune := make([]int, rows)
	p.For(rows, 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := order.Row(i)
			for j, kept := range keep[i*cols : (i+1)*cols] {
				if kept {
					row[j] = 1
				} else {
					prune[i]++
				}
			}
		}
	})
	rank, err := Rank(p, order, nil)
	return rank, prune, err
}

// patternMask ranks within groups of the pattern by |w|·norms.
func patternMask(p *kernel.Pool, w kernel.Mat[float32], norms []float32, pattern Pattern) (*Ranking, []int, error) {
	keep := make([]bool, w.Rows*w.Cols)
	p.For(w.Rows, 8, func(lo, hi int) {
		metric := make([]float32, w.Cols)
		for i := lo; i < hi; i++ {
			importance(metric, w.Row(i), norms)
			row := keep[i*w.Cols : (i+1)*w.Cols]
			for j := range row {
				row[j] = true
			}
			pattern.prune(row, metric)
		}
	})
	return selection(p, keep, w.Rows, w.Cols)
}

// Package enginebench measures what the engine makes of the machine: its peaks
// (arithmetic, memory), the matrix products, the mask operator, attention and
// whole BESA steps, each as a share of a peak measured in the same run.
//
// In: Options. Out: a Report with one Row per figure. Everything runs the code
// that `besa convert` runs, on random weights and hidden states.
package enginebench

//go:build !race

package besa

const raceDetector = false

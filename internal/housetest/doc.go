// Package housetest holds the rules of the house as tests: which package may
// import which, how long a file may get, and that every package says what it
// is for. In: the source tree. Out: test failures.
package housetest

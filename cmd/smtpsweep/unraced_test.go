//go:build !race

package main

// raced says that the race detector is on, which needs many times the memory.
const raced = false

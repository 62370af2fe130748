//go:build race

package agent

// slowCost is lower where the race detector makes everything slower.
const slowCost = 10

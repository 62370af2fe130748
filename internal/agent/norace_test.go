//go:build !race

package agent

// slowCost is the bcrypt cost of a check that takes 150 ms at least.
const slowCost = 12

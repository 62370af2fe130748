//go:build matrix

package matrix

func document() error { return nil }

//go:build linux

package confine

func attackMain(args []string) int { return 9 }

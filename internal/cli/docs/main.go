// Command docs writes the generated pages of the documentation: the command line
// from the command tree, the advisories from the registry. It must not know more
// than those two.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", "docs", "directory of the documentation")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

// write replaces the generated pages in dir.
func write(dir string) error {
	for name, content := range pages() {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write page: %w", err)
		}
	}
	return nil
}

// pages are the generated pages by file name.
func pages() map[string][]byte {
	return map[string][]byte{"cli.md": commandLine(), "advisories.md": advisories()}
}

// Command build makes the Kubernetes control plane that tests use, in the user's
// cache, and prints its directory: go run ./test/kubeenv/build. With -again it
// makes what is there too.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"creel/test/kubeenv"
)

func main() {
	again := flag.Bool("again", false, "build what is there too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx, *again); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, again bool) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "creel").Output()
	if err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	dir, err := kubeenv.Build(ctx, strings.TrimSpace(string(root)), again, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}

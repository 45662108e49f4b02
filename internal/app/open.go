package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"creel/internal/advisory"
)

// windowsPrograms is where a WSL has the programs of Windows when its PATH does
// not lead there.
const windowsPrograms = "/mnt/c/Windows/System32/"

// openers are the programs that show a URL to the user, best first, each with what
// comes before the URL.
func openers(goos string, wsl bool) [][]string {
	switch {
	case goos == "darwin":
		return [][]string{{"open"}}
	case wsl:
		// The browser is on the Windows side.
		return [][]string{{"wslview"}, {"rundll32.exe", "url.dll,FileProtocolHandler"}, {windowsPrograms + "rundll32.exe", "url.dll,FileProtocolHandler"}, {"xdg-open"}}
	}
	return [][]string{{"xdg-open"}, {"gio", "open"}, {"x-www-browser"}}
}

// opener is the first of them that there is, with its path in front.
func opener(wsl bool) ([]string, error) {
	var names []string
	for _, words := range openers(runtime.GOOS, wsl) {
		path, err := exec.LookPath(words[0])
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			names = append(names, words[0])
			continue
		}
		if err != nil {
			return nil, advisory.New("browser-failed", "find "+words[0], err)
		}
		return append([]string{path}, words[1:]...), nil
	}
	return nil, advisory.New("browser-missing", "no program to open a browser was found: "+strings.Join(names, ", "), nil)
}

// openBrowser hands a URL to the first opener that there is.
func openBrowser(ctx context.Context, wsl bool, url string) error {
	words, err := opener(wsl)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], url)...)
	// A session of its own: an interrupt in the shell is not for the browser.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", filepath.Base(words[0]), err)
	}
	return nil
}

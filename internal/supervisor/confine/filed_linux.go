package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// filed puts a request that is too large for a datagram into a file, for which the
// note that it returns is sent.
func filed(r request, encoded []byte) (note []byte, file *os.File, err error) {
	if len(encoded) > maxRequest {
		return nil, nil, fmt.Errorf("command and environment have %d bytes, the limit is %d: %w", len(encoded), maxRequest, syscall.E2BIG)
	}
	if note, err = json.Marshal(request{ID: r.ID, Op: r.Op, Filed: true}); err != nil {
		return nil, nil, err
	}
	file, err = inMemory("request", encoded)
	return note, file, err
}

// unfile reads a request that was too large for a datagram.
func unfile(r request, files []*os.File) (request, []*os.File, error) {
	if len(files) == 0 {
		return r, nil, errors.New("request came without its file")
	}
	last := len(files) - 1
	file, rest := files[last], files[:last]
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.NewSectionReader(file, 0, maxRequest+1))
	if err != nil {
		return r, rest, fmt.Errorf("read request: %w", err)
	}
	full, err := decodeRequest(content)
	if err != nil {
		return r, rest, fmt.Errorf("read request: %w", err)
	}
	return full, rest, nil
}

// inMemory puts content into a file without a place on disk.
func inMemory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("creel-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		return nil, errors.Join(fmt.Errorf("write the %s: %w", name, err), f.Close())
	}
	return f, nil
}

package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// CopyFile makes to a copy of from, durably and whole: a reader of to sees what was
// there before or all of the copy, which shares its blocks with from where the file
// system can. The directory of to must exist. The absence of from is
// fs.ErrNotExist.
func CopyFile(from, to string, mode fs.FileMode) error {
	// Not waiting: a pipe in its place would never be opened.
	src, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	d, err := NewDraft(to, mode)
	if err != nil {
		return err
	}
	err = Fill(d.File, src)
	if err == nil {
		err = d.Sync()
	}
	if err != nil {
		d.Discard()
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return d.Commit()
}

// Fill writes all of src into the new file to and checks that it arrived.
func Fill(to, src *os.File) error {
	want, err := src.Stat()
	if err != nil {
		return err
	}
	if !want.Mode().IsRegular() {
		return &fs.PathError{Op: "copy", Path: src.Name(), Err: errors.New("it is no file")}
	}
	if err := reflink(to, src); err != nil {
		// io.Copy between files is copy_file_range where the kernel has it.
		if _, err := io.Copy(to, src); err != nil {
			return err
		}
	}
	have, err := to.Stat()
	if err != nil {
		return err
	}
	if have.Size() != want.Size() {
		return fmt.Errorf("%d of %d bytes arrived", have.Size(), want.Size())
	}
	return nil
}

package host

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func cgroupVersion() int {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) != nil {
		return 0
	}
	switch int64(st.Type) {
	case unix.CGROUP2_SUPER_MAGIC:
		return 2
	case unix.TMPFS_MAGIC, unix.CGROUP_SUPER_MAGIC:
		return 1
	}
	return 0
}

// Magic numbers of statfs(2) for file systems whose locks or sockets live on
// another machine, or whose latency does.
var remote = map[int64]string{
	unix.NFS_SUPER_MAGIC:  "nfs",
	unix.SMB_SUPER_MAGIC:  "smb",
	unix.SMB2_SUPER_MAGIC: "smb2",
	unix.CIFS_SUPER_MAGIC: "cifs",
	unix.AFS_SUPER_MAGIC:  "afs",
	unix.CEPH_SUPER_MAGIC: "ceph",
	unix.V9FS_MAGIC:       "9p",
	unix.CODA_SUPER_MAGIC: "coda",
}

// NetworkFilesystem names the network file system that path is (or will be) on,
// "" for a local one.
func NetworkFilesystem(path string) (string, error) {
	dir, err := nearest(path)
	if err != nil {
		return "", err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("ask file system of %s: %w", dir, err)
	}
	return remote[int64(st.Type)&0xffffffff], nil
}

// tryWrite writes a block to a file that never gets a name. Where the file
// system has no such files a temporary one is made and removed.
func tryWrite(dir string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	var f *os.File
	switch {
	case err == nil:
		f = os.NewFile(uintptr(fd), dir)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT):
		return tryTemporary(dir)
	default:
		return err
	}
	defer f.Close()
	return writeBlock(f)
}

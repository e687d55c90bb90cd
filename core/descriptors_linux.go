// SPDX-License-Identifier: Apache-2.0

package core

import "golang.org/x/sys/unix"

func newPipe() ([2]int, error) {
	var ends [2]int
	err := unix.Pipe2(ends[:], unix.O_CLOEXEC)
	return pairAboveStdio(ends, err)
}

// setNonblock is for a descriptor that has just been made: it has no other flags
// that could be set.
func setNonblock(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK)
	return err
}

func setPipeSize(fd, size int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size)
	return err
}

func newSocketPair() ([2]int, error) {
	return pairAboveStdio(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0))
}

// openDirectory opens a directory to start a program from, which needs no
// permission to read it.
func openDirectory(path string) (int, error) {
	return aboveStdio(unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
}

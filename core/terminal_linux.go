// SPDX-License-Identifier: Apache-2.0

package core

import "golang.org/x/sys/unix"

// Size of a terminal that nobody gave a size. Zero rows and columns, the
// kernel's default, break programs that draw.
const (
	defaultRows = 24
	defaultCols = 80
)

// openPTY opens a pair of pseudo terminals, the master non-blocking. See
// docs/decisions/0003-pty.md for why no package does it.
func openPTY() (master, slave int, err error) {
	master, err = aboveStdio(unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0))
	if err != nil {
		return -1, -1, failed(err, "open /dev/ptmx")
	}
	if err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		_ = unix.Close(master)
		return -1, -1, failed(err, "ioctl TIOCSPTLCK")
	}
	// By the master, not by name: right also where /dev/pts is another mount.
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno == 0 {
		slave, err = aboveStdio(int(peer), nil)
	} else {
		err = errno
	}
	if err != nil {
		_ = unix.Close(master)
		return -1, -1, failed(err, "ioctl TIOCGPTPEER")
	}
	return master, slave, nil
}

func setUpTerminal(master, slave int, o *Options) error {
	rows, cols := o.Rows, o.Cols
	if rows == 0 {
		rows = defaultRows
	}
	if cols == 0 {
		cols = defaultCols
	}
	size := unix.Winsize{Row: rows, Col: cols}
	if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &size); err != nil {
		return failed(err, "ioctl TIOCSWINSZ")
	}
	if o.Flags&PTYNoEcho == 0 {
		return nil
	}
	termios, err := unix.IoctlGetTermios(slave, unix.TCGETS)
	if err == nil {
		termios.Lflag &^= unix.ECHO
		err = unix.IoctlSetTermios(slave, unix.TCSETS, termios)
	}
	if err != nil {
		return failed(err, "NR_PTY_NOECHO: ioctl TCSETS")
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Error is an errno and one line that says what failed, and on what.
type Error struct {
	Errno unix.Errno
	Why   string
}

func (e *Error) Error() string { return e.Why }

// Unwrap makes errors.Is(err, unix.ENOENT) work.
func (e *Error) Unwrap() error { return e.Errno }

// invalid is the error for an option that makes no sense.
func invalid(format string, args ...any) *Error {
	return &Error{unix.EINVAL, fmt.Sprintf(format, args...)}
}

// failed is the error for a system call: "pipe2: too many open files".
func failed(err error, format string, args ...any) *Error {
	errno, ok := err.(unix.Errno)
	if !ok {
		errno = unix.EIO
	}
	return &Error{errno, fmt.Sprintf(format, args...) + ": " + err.Error()}
}

// SPDX-License-Identifier: Apache-2.0

package threads

import "golang.org/x/sys/unix"

// TimerSlack is the calling thread's, in nanoseconds.
func TimerSlack() (int, error) {
	slack, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(slack), nil
}

// SetTimerSlack sets that of the calling thread, and of what it starts; 0: that
// with which it was started.
func SetTimerSlack(nanoseconds int) error {
	return unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(nanoseconds), 0, 0, 0)
}

// SPDX-License-Identifier: Apache-2.0

package threads

import "golang.org/x/sys/unix"

// SetTimerSlack sets that of the calling thread, and of what it starts; 0: that
// with which it was started.
func SetTimerSlack(nanoseconds int) error {
	return unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(nanoseconds), 0, 0, 0)
}

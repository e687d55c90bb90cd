// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A fork copies our table of descriptors, and the execve(2) closes the copies
// again: with thousands of programs that takes longer than all the rest. So
// descriptors that are kept for as long as a program runs have high numbers, and
// a child, which at first shares the table, takes a copy of the low ones only
// (close_range(2) with CLOSE_RANGE_UNSHARE, Linux 5.9).
const (
	firstLasting   = 256 // of the high numbers
	firstTransient = 128 // from here to there nothing is left for long
)

// manyFiles is from how many descriptors on there are some to be generous with.
const manyFiles = 1024

// lasting gives a descriptor that is to be kept a high number, where there are
// so many that it matters. It fails when there is none left.
func lasting(fd int) (int, error) {
	if fd < firstTransient || fd >= firstLasting || fileLimit() < manyFiles {
		return fd, nil
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstLasting)
	if err != nil {
		return fd, err
	}
	_ = unix.Close(fd)
	return high, nil
}

// fileLimit is how many descriptors there may be. It is raised at the start, and
// somebody else's prlimit(2) may have come since.
func fileLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// spareFiles is the first of the descriptors that are not for programs: without
// some of our own we could not look for what they leave behind.
func spareFiles() int {
	limit := fileLimit()
	return limit - min(32, limit/4)
}

// withoutSharing is set when a seccomp filter that knows neither close_range(2)
// nor unshare(2) has kept a child from getting a table of its own.
var withoutSharing atomic.Bool

// unshareFiles writes the first system calls of a child, if it is to share our
// table of descriptors: those given have low numbers.
func (s *script) unshareFiles(descriptors []int) {
	for _, fd := range descriptors {
		if fd >= firstLasting {
			return
		}
	}
	if withoutSharing.Load() {
		return
	}
	s.shares = true
	s.add("close_range", "CLOSE_RANGE_UNSHARE", unix.SYS_CLOSE_RANGE, firstLasting, uintptr(^uint32(0)), unix.CLOSE_RANGE_UNSHARE, 0).
		tolerated = ^uint64(0)
	s.add("unshare", "CLONE_FILES", unix.SYS_UNSHARE, unix.CLONE_FILES, 0, 0, 0) // only if that has failed
}

// rowsToUnshare is how many rows unshareFiles has written.
const rowsToUnshare = 2

// stopSharing changes a script whose child could not unshare.
func (s *script) stopSharing() {
	withoutSharing.Store(true)
	s.shares = false
	for i := range s.rows[:rowsToUnshare] {
		s.rows[i].trap, s.rows[i].tolerated = unix.SYS_SCHED_YIELD, ^uint64(0)
	}
}

// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// rlimitCount is the number of resource limits, RLIM_NLIMITS.
const rlimitCount = 16

// identity is what a program inherits from the host by way of the shepherd,
// which inherited it when it was started. A host that has changed any of it
// since, above all one that has dropped privileges, gets a new shepherd: a
// program never runs as somebody that the host no longer is.
type identity struct {
	uids, gids [3]int
	groups     []int
	nice       int
	rlimits    [rlimitCount]unix.Rlimit
}

func currentIdentity() identity {
	var id identity
	id.uids[0], id.uids[1], id.uids[2] = unix.Getresuid()
	id.gids[0], id.gids[1], id.gids[2] = unix.Getresgid()
	id.groups, _ = unix.Getgroups() // cannot fail: the slice is as large as the kernel says
	id.nice, _ = unix.Getpriority(unix.PRIO_PROCESS, 0)
	for i := range id.rlimits {
		id.rlimits[i], _ = limitOf(i)
	}
	id.rlimits[unix.RLIMIT_NOFILE].Cur = 0 // goes with every Spawn
	return id
}

// limitOf is getrlimit(2), which takes half as long as prlimit(2): that looks for
// the process, and asks whether it may.
func limitOf(resource int) (limit unix.Rlimit, err error) {
	_, _, errno := unix.RawSyscall(unix.SYS_GETRLIMIT, uintptr(resource), uintptr(unsafe.Pointer(&limit)), 0)
	if errno != 0 { // a seccomp filter may know only that of libc
		err = unix.Prlimit(0, resource, nil, &limit)
	}
	return limit, err
}

func (id *identity) equal(other *identity) bool {
	return id.uids == other.uids && id.gids == other.gids && slices.Equal(id.groups, other.groups) &&
		id.nice == other.nice && id.rlimits == other.rlimits
}

// hostNoFile is the host's RLIMIT_NOFILE. The shepherd raises its own, so that
// programs are told theirs.
func hostNoFile() (wire.Rlimit, bool) {
	limit, err := limitOf(unix.RLIMIT_NOFILE)
	return wire.Rlimit{Resource: unix.RLIMIT_NOFILE, Soft: limit.Cur, Hard: limit.Max}, err == nil
}

// hostPIDFD opens a descriptor that tells the shepherd when this process has
// died, or returns -1 where the kernel has none.
func hostPIDFD() int {
	fd, err := aboveStdio(unix.PidfdOpen(unix.Getpid(), 0))
	if err != nil {
		return -1
	}
	return fd
}

func killPIDFD(fd int) { _ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) }

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What programs leave behind is reaped here, by two ways. Programs are reaped by
// who learns of their ends, see awaitEnds.
//
// Orphans are given to the main thread. It waits for its own children only: to
// wait for all would have the kernel look at each program, under tasklist_lock,
// when one of them ends. For that wait to sleep there must be a child that lives
// on, the anchor.
//
// Strangers are what a program makes with CLONE_PARENT: children of the worker
// that has forked the program. To be told of their ends is to be told of the
// ends of all programs. They are rare, and looked for now and then.

// reap reaps orphans as soon as they end, for ever, on the main thread.
func (s *shepherd) reap() {
	for {
		var info childInfo
		err := waitAny(&info, unix.WNOTHREAD)
		pid := int(info.pid)
		s.mu.Lock()
		if err == nil && reapOrphan(pid) {
			if pid == s.anchor {
				s.anchor = 0 // somebody has killed it
			}
			s.finishWaned()
			s.exitWhenDone()
		}
		if s.anchor == 0 {
			s.anchor = max(0, newAnchor())
		}
		s.mu.Unlock()
		if err == unix.ECHILD {
			sleep(10 * time.Millisecond) // there could be no other one
		}
	}
}

// How often strangers are looked for: first after the shortest time, while
// nothing ends less and less often.
const (
	strangersSoon  = 50 * time.Millisecond
	strangersLater = time.Minute
)

// lookForStrangers has strangers looked for soon.
func (s *shepherd) lookForStrangers() {
	if s.strangersIn != strangersSoon {
		s.strangersIn = strangersSoon
		setTimer(s.strangersTimer, s.strangersIn)
	}
}

// reapStrangers looks for them once, and as long as there are programs again.
func (s *shepherd) reapStrangers() {
	acknowledge(s.strangersTimer)
	for {
		var info childInfo
		if waitAny(&info, unix.WNOHANG) != nil || info.pid == 0 || s.isOurs(int(info.pid)) || !reapOrphan(int(info.pid)) {
			break
		}
	}
	s.finishWaned() // the sweeper may have reaped the last of them
	switch {
	case len(s.byPID)+len(s.waning) == 0:
		s.strangersIn = 0
		return
	case len(s.waning) == 0:
		s.strangersIn = min(2*s.strangersIn, strangersLater)
	}
	setTimer(s.strangersTimer, s.strangersIn)
}

// reapOrphan reaps a child if it has ended.
func reapOrphan(pid int) bool {
	got, err := unix.Wait4(pid, nil, unix.WNOHANG|unix.WALL, nil)
	return err == nil && got == pid
}

// childInfo is siginfo_t for SIGCHLD, on a 64-bit kernel.
type childInfo struct {
	signo, errno, code, _ int32
	pid                   int32
	_                     [108]byte
}

// waitAny waits for the end of any child, and leaves it to be reaped: until
// then its process id is nobody else's. With WNOHANG there may be none, pid 0.
func waitAny(info *childInfo, options int) error {
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(info)),
		uintptr(unix.WEXITED|unix.WNOWAIT|unix.WALL|options), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// newAnchor makes the anchor, a child of the calling thread, and returns its
// process id or a negative errno. It shares our memory and costs none of its
// own, and has our name. PR_SET_PDEATHSIG would come too late if we died before
// it was set.
func newAnchor() int {
	script := anchorScript()
	return script.fork(unix.SYS_CLONE, unix.CLONE_VM|uintptr(unix.SIGCHLD), 0, 0, script.rows)
}

var anchorScript = sync.OnceValue(func() *script {
	s := new(script)
	shepherd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		shepherd = -1 // then it ends at once
	}
	s.add("dup3", nil, unix.SYS_DUP3, uintptr(shepherd), 0, 0, 0)
	s.add("close_range", nil, unix.SYS_CLOSE_RANGE, 1, uintptr(^uint32(0)), 0, 0)
	s.add("setsid", nil, unix.SYS_SETSID, 0, 0, 0, 0)
	s.add("ppoll", nil, unix.SYS_PPOLL, s.memory(unix.POLLIN<<32), 1, 0, 0) // struct pollfd: descriptor 0
	s.add("exit", nil, unix.SYS_EXIT_GROUP, 0, 0, 0, 0)
	for i := range s.rows {
		s.rows[i].tolerated = ^uint64(0)
	}
	return s
})

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// guardianArgument is followed by the process id of the shepherd.
const guardianArgument = "--guardian"

// guard is the guardian of the shepherd, its child: when that ends, for whatever
// reason, it kills all that is left below and ends, too. It has no state and no
// socket, only children: as their subreaper it gets them all when the shepherd
// is gone. The shepherd watches it and does the same when it dies. So no
// program's tree survives the death of the host and one of the two.
func guard(shepherd int) {
	nameProcess("netrunner-guard")
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "netrunner-shepherd: prctl PR_SET_CHILD_SUBREAPER:", err)
		os.Exit(1)
	}
	dropSignals()
	adopted, err := childList(os.Getpid())
	if err != nil {
		fmt.Fprintln(os.Stderr, "netrunner-shepherd: list of children:", err)
		os.Exit(1)
	}
	for {
		var info childInfo
		if err := waitAny(&info, 0); err == unix.ECHILD {
			os.Exit(0)
		}
		pid, err := unix.Wait4(int(info.pid), nil, unix.WNOHANG|unix.WALL, nil)
		if err == nil && pid == shepherd {
			break
		}
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	everything := &hunt{
		signal: unix.SIGKILL, ours: func(uint64) bool { return false },
		belongs: func(uint64) bool { return true },
		adopted: adopted, left: func(pids []int) ([]int, bool) { return pids, true },
	}
	for {
		everything.run()
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil)
			if err == unix.ECHILD {
				os.Exit(0)
			}
			if pid <= 0 && err != unix.EINTR {
				break
			}
		}
		if everything.hits == 0 {
			sleep(200 * time.Microsecond)
		}
		everything.hits = 0
	}
}

// watchGuardian makes the shepherd end with its guardian, as with the host. Until
// now the kernel has killed it then, as there were no programs. The caller is the
// main thread, whose death signal that is.
func (s *shepherd) watchGuardian() error {
	if os.Getppid() != 1 { // else it was started without one, or that is dead
		fd, err := unix.PidfdOpen(os.Getppid(), 0)
		if err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
		s.guardian = fd
		if err := s.watchDescriptor(fd); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_PDEATHSIG: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// marksPerShepherd is how many programs a shepherd can tell apart. The bits
// above are its own, so that it knows the marks of another, below it or above.
const marksPerShepherd = 1 << 32

// newMarks returns a range of marks that is most likely nobody else's.
func newMarks() uint64 {
	return firstMark + rand.Uint64N(1<<21)*marksPerShepherd
}

func (s *shepherd) isOurMark(mark uint64) bool {
	return mark >= s.marks && mark < s.marks+marksPerShepherd
}

// sweep kills what programs leave behind, and tells when it is gone. It runs on
// a thread of its own and without the lock, as a hostile tree may keep it busy.
func (s *shepherd) sweep() {
	runtime.LockOSThread()
	// A storm of processes must not keep us from running. Only root may.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)

	var pause time.Duration
	for {
		s.mu.Lock()
		for len(s.draining) == 0 && len(s.terminating) == 0 && !s.lastSweep() {
			s.sweepWanted.Wait()
		}
		terminate, kill := s.hunts()
		s.mu.Unlock()

		if terminate != nil {
			terminate.run()
		}
		kill.run()

		s.mu.Lock()
		s.swept(kill)
		s.mu.Unlock()
		// Runners, which fork and end, are caught by being faster. What is
		// still there after that takes its time to die.
		switch {
		case kill.hits > 0:
			pause = 0
		case pause == 0:
			pause = 50 * time.Microsecond
		default:
			pause = min(2*pause, 5*time.Millisecond)
		}
		if pause > 0 && len(kill.found) > 0 {
			time.Sleep(pause)
		}
	}
}

// hunts describes what is to be hit now.
func (s *shepherd) hunts() (terminate, kill *hunt) {
	hunted := make(map[uint64]bool, len(s.draining))
	for p := range s.draining {
		hunted[p.mark] = true
	}
	alive := maps.Clone(s.alive)
	for mark := range hunted {
		delete(alive, mark)
	}
	hostGone := s.hostGone
	kill = &hunt{signal: unix.SIGKILL, ours: s.isOurMark, belongs: func(mark uint64) bool {
		switch {
		case hunted[mark]:
			return true
		case mark == unmarked:
			// It came from one of our programs. With several of them alive
			// nobody knows which, so it lives until one is left, or none.
			return len(alive) == 0
		}
		return hostGone && !alive[mark]
	}}
	if len(s.terminating) > 0 {
		marks := make(map[uint64]bool)
		groups := make(map[int]bool)
		var leaders []int
		for _, p := range s.terminating {
			marks[p.mark] = true
			groups[p.pid] = true
			if !p.ended {
				leaders = append(leaders, p.pid)
			}
		}
		s.terminating = nil
		terminate = &hunt{signal: unix.SIGTERM, ours: s.isOurMark, skipGroups: groups, roots: leaders,
			belongs: func(mark uint64) bool { return marks[mark] }}
	}
	return terminate, kill
}

// swept takes the result of a pass. A tree is gone when two passes in a row
// have seen nothing of it.
func (s *shepherd) swept(pass *hunt) {
	for p := range s.draining {
		if pass.found[p.mark] || pass.found[unmarked] {
			p.quiet = 0
		} else {
			p.quiet++
		}
	}
	if len(pass.found) > 0 {
		s.quiet = 0
	} else {
		s.quiet++
	}
	s.settle()
	s.exitWhenDone()
}

// lastSweep tells whether it is time to kill all that is left.
func (s *shepherd) lastSweep() bool { return s.hostGone && !s.isBusy() }

const quietPasses = 2

// nothingLeft tells, of a program whose leader has just been reaped, that there
// is nothing to sweep: the usual case, without a pass.
func nothingLeft() bool { return len(orphans()) == 0 }

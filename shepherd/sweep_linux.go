// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
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
	// A storm of processes must not keep us from running. Only root may.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)

	var pause time.Duration
	for {
		s.mu.Lock()
		for len(s.draining) == 0 && len(s.terminating) == 0 && !s.lastSweep() && !(s.lost && len(s.alive) == 0) {
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
		if pause > 0 && (len(kill.found) > 0 || kill.unsure) {
			sleep(pause)
		}
	}
}

// hunts describes what is to be hit now.
func (s *shepherd) hunts() (terminate, kill *hunt) {
	hunted := make(map[uint64]bool, len(s.draining))
	groups := make(map[uint64]*cgroup)
	for p := range s.draining {
		hunted[p.mark] = true
		if p.group != nil && p.group.kill < 0 {
			groups[p.mark] = p.group
		}
	}
	alive := maps.Clone(s.alive)
	for mark := range hunted {
		delete(alive, mark)
	}
	hostGone := s.hostGone
	kill = s.newHunt(unix.SIGKILL, func(mark uint64) bool {
		switch {
		case hunted[mark]:
			return true
		case mark == unmarked:
			// It came from one of our programs. With several of them alive
			// nobody knows which, so it lives until one is left, or none.
			return len(alive) == 0
		}
		return hostGone && !alive[mark]
	})
	kill.hunted, kill.groups = hunted, groups
	if len(s.terminating) > 0 {
		marks := make(map[uint64]bool)
		skip := make(map[int]bool)
		var roots []int
		for _, p := range s.terminating {
			marks[p.mark] = true
			skip[p.pid] = true
			if !p.ended {
				roots = append(roots, p.pid)
			}
			if p.init.pid > 0 {
				roots = append(roots, p.init.pid)
			}
		}
		s.terminating = nil
		terminate = s.newHunt(unix.SIGTERM, func(mark uint64) bool { return marks[mark] })
		terminate.skipGroups, terminate.roots = skip, roots
	}
	return terminate, kill
}

func (s *shepherd) newHunt(signal unix.Signal, belongs func(mark uint64) bool) *hunt {
	return &hunt{signal: signal, belongs: belongs, ours: s.isOurMark,
		adopted: s.adopted, forked: s.forkedLists, left: s.left}
}

// left takes what was forked here out of what a list of children has shown. It
// is not sure while a worker forks.
func (s *shepherd) left(pids []int) (rest []int, sure bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(pids, s.isOurs), !s.forking && s.stuck == 0
}

// isOurs tells whether pid is a child that was forked here: a program, or the
// init of its namespace, or what may become one, or the anchor.
func (s *shepherd) isOurs(pid int) bool {
	return s.byPID[pid] != nil || pid == s.anchor || s.inFlight(pid)
}

// isOrphan tells the opposite of a child: it was left to us.
func (s *shepherd) isOrphan(pid int) bool { return !s.isOurs(pid) }

// swept takes the result of a pass, and reaps the strangers that it has seen. A tree is gone when two passes in a row
// have seen nothing of it.
func (s *shepherd) swept(pass *hunt) {
	for _, pid := range pass.strangers {
		if !s.isOurs(pid) {
			reapOrphan(pid)
		}
	}
	for p := range s.draining {
		if !pass.hunted[p.mark] {
			continue // it has come since
		}
		if pass.found[p.mark] || pass.found[unmarked] || pass.unsure {
			p.quiet = 0
		} else {
			p.quiet++
		}
	}
	if len(pass.found) > 0 || pass.unsure {
		s.quiet = 0
	} else {
		s.quiet++
	}
	s.lost = pass.lost || s.lost && s.quiet < quietPasses
	s.settle()
	s.exitWhenDone()
}

// forgetMark is about a program that has gone. What others have left without a
// mark dies with the last of them.
func (s *shepherd) forgetMark(mark uint64) {
	delete(s.alive, mark)
	if s.lost && len(s.alive) == 0 {
		s.quiet = 0
		s.sweepWanted.Signal()
	}
}

// lastSweep tells whether it is time to kill all that is left.
func (s *shepherd) lastSweep() bool { return s.hostGone && !s.isBusy() }

const quietPasses = 2

// leftNothing tells, of a program that has just been reaped, that there is
// nothing to sweep: the usual case, without a pass.
func (s *shepherd) leftNothing(p *program) bool {
	if p.childless && len(s.alive) > 1 {
		return true // what others have left is not to be hit while they live
	}
	l := s.look
	if l == nil {
		l = new(look)
	}
	if l.adopted == unknown {
		pids, sure := readList(s.adopted)
		l.adopted = verdictOf(sure && !slices.ContainsFunc(pids, s.isOrphan))
	}
	if forked := &l.forked[p.worker]; *forked == unknown {
		text, sure := readFrom(s.forkedLists[p.worker])
		// Each is followed by a space. Beside the expected ones there may be one
		// that is just being made: then it takes a closer look.
		*forked = verdictOf(sure && (bytes.Count(text, []byte(" ")) == s.expected[p.worker] ||
			!slices.ContainsFunc(parsePIDs(text), s.isOrphan)))
	}
	return l.adopted == nothing && l.forked[p.worker] == nothing
}

// look is a look at our children, which holds for all programs that had ended
// before it: those whose ends are told at once are looked for at once.
type look struct {
	adopted verdict
	forked  [maxWorkers]verdict
	lastPID int // 0: not known
}

// verdict tells whether a list has shown what programs have left.
type verdict int8

const (
	unknown verdict = iota
	nothing
	something
)

func verdictOf(clean bool) verdict {
	if clean {
		return nothing
	}
	return something
}

// isChildless tells, of a program that has ended, that nobody has forked since
// it was made, so that it has nothing to leave. Process ids are given in turn,
// and it still has the last one of all of our PID namespace. (But for the set_tid
// of clone3(2), which takes privilege.)
func (s *shepherd) isChildless(p *program) bool {
	l := s.look
	if l == nil {
		l = new(look)
	}
	if l.lastPID == 0 {
		text, _ := readFrom(s.loadavg) // "0.01 0.02 0.00 1/80 4711"
		l.lastPID, _ = strconv.Atoi(string(bytes.TrimSpace(text[bytes.LastIndexByte(text, ' ')+1:])))
	}
	return l.lastPID == p.pid
}

// orphans are all children that are no programs.
func (s *shepherd) orphans() (pids []int, sure bool) {
	pids, sure = readList(s.adopted)
	for _, list := range s.forkedLists {
		more, ok := readList(list)
		pids = append(pids, more...)
		sure = sure && ok
	}
	return slices.DeleteFunc(pids, s.isOurs), sure
}

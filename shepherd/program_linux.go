// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"container/heap"
	"io"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// program is a program that runs, or that has left something running.
type program struct {
	child          // its pid is that of its process group, too
	group  *cgroup // its own, or nil
	init   child   // of its PID namespace, pid 0: it has none, or that is gone
	mark   uint64  // of all its descendants
	worker int     // whose child it is
	socket int     // the process socket, -1 when the host has no more use for it
	reader wire.Reader

	linger      bool
	killTimeout time.Duration // or wire.KillNow

	reason    wire.Reason
	sent      uint64 // the signals that the host has sent, see signalBit
	stopping  bool   // SIGTERM has been sent
	ended     bool   // the leader has been reaped
	childless bool   // no process has been made since, by whomever
	quiet     int    // passes in a row that have seen nothing of its tree
	exited    wire.Exited

	// Its place among the timers: of the time limit, later of the grace.
	deadline int64
	index    int // in timers, -1: none
}

// started takes a program in whose execve(2) has succeeded.
func (s *shepherd) started(r *request, leader, init child, group *cgroup, worker int, mark uint64) {
	p := &program{
		child: leader, init: init, group: group, worker: worker, mark: mark, socket: r.descriptors[0], index: -1,
		linger:      r.spawn.Flags&wire.SpawnLinger != 0,
		killTimeout: time.Duration(r.spawn.KillTimeout),
	}
	// First our copies: once the host knows of the program, writing to one that
	// has closed its input must fail.
	r.descriptors = r.descriptors[1:]
	r.close()
	started := wire.Started{PID: int32(p.pid)}
	if group != nil {
		group.forked()
		started.Cgroup = group.dir
	}
	s.send(p.socket, started.Encode())

	for _, c := range []child{p.child, p.init} {
		if c.pid > 0 {
			s.byPID[c.pid], s.byPIDFD[c.pidfd] = p, p
			s.expected[worker]++
		}
	}
	s.lookForStrangers()
	s.bySocket[p.socket] = p
	if err := s.watchDescriptor(p.socket); err != nil || s.hostGone {
		s.abandon(p) // ENOMEM or ENOSPC: what can't be watched must not run
		return
	}
	if r.spawn.Timeout > 0 {
		s.arm(p, time.Duration(r.spawn.Timeout))
	}
}

// serveProgram takes what the host says about a program.
func (s *shepherd) serveProgram(p *program) {
	for {
		err := p.reader.Read(p.socket, s.scratch, func(h wire.Header, payload []byte, descriptors []int) error {
			for _, fd := range descriptors {
				_ = unix.Close(fd)
			}
			return s.command(p, h, payload)
		})
		switch {
		case p.socket < 0: // it has been let go: the rest is nobody's
			p.reader.Close()
		case err == nil:
			continue
		case err == unix.EAGAIN:
		default: // the end, or nonsense
			s.abandon(p)
		}
		return
	}
}

func (s *shepherd) command(p *program, h wire.Header, payload []byte) error {
	switch h.Type {
	case wire.TypeSignal:
		signal, err := wire.ParseSignal(payload)
		if err != nil {
			return err
		}
		errno := s.signal(p, unix.Signal(signal.Number))
		if errno == 0 && signal.Number > 0 {
			p.sent |= signalBit(signal.Number)
		}
		if !p.ended {
			s.send(p.socket, (&wire.Answer{Sequence: signal.Sequence, Errno: int32(errno)}).Encode())
		}
	case wire.TypeStop:
		stop, err := wire.ParseStop(payload)
		if err != nil {
			return err
		}
		s.stop(p, stop.Reason)
	case wire.TypeRelease:
		s.letGo(p)
		s.stop(p, wire.ReasonKilled)
	default:
		return io.ErrUnexpectedEOF
	}
	return nil
}

// signal sends a signal to a program and its process group. While the program
// has not been reaped, neither number can be anybody else's.
func (s *shepherd) signal(p *program, sig unix.Signal) unix.Errno {
	if p.ended {
		if p.linger {
			return s.signalRest(p, sig)
		}
		return unix.ESRCH
	}
	if p.group != nil && sig != 0 {
		if errno := p.group.signal(sig); errno != unix.ESRCH {
			return errno
		} // it has moved to another cgroup
	}
	err := unix.Kill(-p.pid, sig)
	if group, groupErr := unix.Getpgid(p.pid); groupErr == nil && group != p.pid {
		err = unix.Kill(p.pid, sig) // it has moved to another group
	}
	errno, _ := err.(unix.Errno)
	return errno
}

// signalRest signals the group of a program that has been reaped. Its number
// is still that group's as long as one of our own children is in it.
func (s *shepherd) signalRest(p *program, sig unix.Signal) unix.Errno {
	if p.group != nil {
		return p.group.signal(sig)
	}
	if p.init.pid > 0 {
		return signalBelow(p.init.pid, p.pid, sig)
	}
	if !s.groupLives(p) {
		return unix.ESRCH
	}
	errno, _ := unix.Kill(-p.pid, sig).(unix.Errno)
	return errno
}

// stop ends a program: SIGTERM, grace, SIGKILL. The first reason counts.
func (s *shepherd) stop(p *program, reason wire.Reason) {
	if p.reason == wire.ReasonOwn {
		p.reason = reason
	}
	if reason == wire.ReasonOutput || p.killTimeout == wire.KillNow {
		s.kill(p)
		return
	}
	if p.stopping {
		return
	}
	p.stopping = true
	if p.group != nil {
		p.group.thaw()
	}
	s.signal(p, unix.SIGTERM)
	s.signal(p, unix.SIGCONT) // a stopped process takes no SIGTERM
	s.arm(p, p.killTimeout)
	if p.group == nil { // else all have it
		s.terminating = append(s.terminating, p)
		s.sweepWanted.Signal()
	}
	if p.ended {
		s.wane(p)
	}
}

func (s *shepherd) kill(p *program) {
	s.disarm(p)
	p.stopping = true
	s.signal(p, unix.SIGKILL)
	killInit(p)
	if p.ended && p.linger {
		delete(s.waning, p)
		s.drain(p)
	}
}

// letGo drops the process socket: the host has no more use for it.
func (s *shepherd) letGo(p *program) {
	if p.socket < 0 {
		return
	}
	s.unwatch(p.socket)
	s.closeSocket(p)
}

func (s *shepherd) closeSocket(p *program) {
	delete(s.bySocket, p.socket)
	_ = unix.Close(p.socket)
	p.reader.Close()
	p.socket = -1
}

// abandon kills a program whose host has died, or is not to be understood.
func (s *shepherd) abandon(p *program) {
	s.letGo(p)
	s.kill(p)
}

// ended reaps a program, after it has killed the rest of its group.
func (s *shepherd) ended(p *program) {
	// What the host has said before: that may be why it has ended, as when the
	// host closes the pipe of a program with too much output.
	if p.socket >= 0 {
		s.serveProgram(p)
	}
	if !p.linger {
		// Before the leader is reaped, while its number is still this group's.
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
	p.childless = s.isChildless(p)
	var status unix.WaitStatus
	var usage unix.Rusage
	pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG|unix.WALL, &usage)
	if err != nil || pid != p.pid {
		return
	}
	defer s.closeEnd(s.unexpect(&p.child, p)) // the host comes first
	p.ended = true
	p.exited = outcome(status, &usage)
	p.exited.Reason = p.endReason()
	p.exited.Time = now()
	switch {
	case !p.linger:
		s.drain(p)
	case p.stopping && p.index < 0: // killed
		s.drain(p)
	case p.stopping:
		s.wane(p)
	default:
		s.disarm(p)
		if p.group != nil {
			p.group.conclude(&p.exited)
		}
		if p.socket >= 0 {
			s.tellExit(p)
			_ = unix.Shutdown(p.socket, unix.SHUT_WR)
		}
	}
}

// endReason says whether it was us. A program that handles the SIGTERM that
// nr_kill(3) sent, and exits, has been killed by it.
func (p *program) endReason() wire.Reason {
	by := p.exited.Signal
	if by < 0 {
		by = int32(unix.SIGTERM)
	}
	if p.reason == wire.ReasonOwn && p.sent&signalBit(by) != 0 {
		return wire.ReasonKilled
	}
	return p.reason
}

func signalBit(number int32) uint64 { return 1 << ((number - 1) & 63) }

func outcome(status unix.WaitStatus, usage *unix.Rusage) wire.Exited {
	e := wire.Exited{
		Code: -1, Signal: -1,
		Usage: wire.Usage{
			User:                uint64(usage.Utime.Nano()),
			System:              uint64(usage.Stime.Nano()),
			MaxRSS:              uint64(usage.Maxrss) << 10,
			MinorFaults:         uint64(usage.Minflt),
			MajorFaults:         uint64(usage.Majflt),
			BlocksIn:            uint64(usage.Inblock),
			BlocksOut:           uint64(usage.Oublock),
			VoluntarySwitches:   uint64(usage.Nvcsw),
			InvoluntarySwitches: uint64(usage.Nivcsw),
		},
	}
	if status.Signaled() {
		e.Signal = int32(status.Signal())
		e.Core = status.CoreDump()
	} else {
		e.Code = int32(status.ExitStatus())
	}
	return e
}

// killInit has the kernel kill all of a PID namespace. The init is our child and
// has not been reaped, so its number is nobody else's.
func killInit(p *program) {
	if p.init.pid > 0 {
		_ = unix.Kill(p.init.pid, unix.SIGKILL)
	}
}

// initEnded reaps the init of a PID namespace. There is nothing left in that:
// the kernel has waited for the last of it (zap_pid_ns_processes).
func (s *shepherd) initEnded(p *program) {
	reapChild(p.init.pid)
	s.closeEnd(s.unexpect(&p.init, p))
	p.init.pid = 0
	if p.ended {
		delete(s.waning, p)
		s.drain(p) // of others something may be left, if this was the last
	}
}

// treeGone finishes a program when nothing is left in its cgroup either, where
// somebody else may have put what is not of its tree.
func (s *shepherd) treeGone(p *program) {
	switch {
	case p.group == nil || p.group.isEmpty():
		s.finish(p)
	case p.group.kill < 0:
		s.draining[p] = struct{}{} // until none is seen
		p.quiet = 0
		s.sweepWanted.Signal()
	default:
		p.group.signal(unix.SIGKILL)
		s.emptying[p] = struct{}{}
		s.byPIDFD[p.group.events] = p
		if s.expectEvent(p.group.events, unix.EPOLLPRI) != nil {
			s.finish(p) // ENOMEM; it has been killed, and dies
			return
		}
		s.groupChanged(p) // before it was watched
	}
}

// groupPeriod is how often a cgroup that is to become empty is looked at whatever
// its events say. The kernel holds back those that come within 10 ms of another
// (cgroup_file_notify), and forgets them when somebody removes the directory.
const groupPeriod = 50 * time.Millisecond

// groupChanged looks whether a cgroup has become empty.
func (s *shepherd) groupChanged(p *program) {
	if p.group.isEmpty() {
		s.finish(p)
		return
	}
	s.arm(p, groupPeriod)
	s.wake() // the leader, which keeps the time
}

// drain has the rest of a program's tree killed, and finishes the program when
// it is gone.
func (s *shepherd) drain(p *program) {
	if p.group != nil {
		p.group.signal(unix.SIGKILL)
	}
	if p.init.pid > 0 {
		killInit(p)
		return
	}
	_, draining := s.draining[p]
	_, emptying := s.emptying[p]
	if draining || emptying {
		return // it has been killed before, as by a stop and then a release
	}
	if s.leftNothing(p) {
		s.treeGone(p)
		return
	}
	s.draining[p] = struct{}{}
	s.sweepWanted.Signal()
}

// wane lets what has lingered take its grace.
func (s *shepherd) wane(p *program) {
	s.waning[p] = struct{}{}
	s.lookForStrangers()
	s.finishWaned()
}

// finishWaned finishes the programs of which nothing lingers any more.
func (s *shepherd) finishWaned() {
	for p := range s.waning {
		if !s.treeLives(p) {
			delete(s.waning, p)
			s.drain(p)
		}
	}
}

// settle finishes the programs whose trees are gone.
func (s *shepherd) settle() {
	for p := range s.draining {
		if p.quiet >= quietPasses {
			delete(s.draining, p)
			s.treeGone(p)
		}
	}
}

func (s *shepherd) finish(p *program) {
	s.forgetMark(p.mark)
	s.quiet = 0
	s.disarm(p)
	if p.group != nil {
		s.leaveGroup(p)
	}
	if p.socket < 0 {
		return
	}
	s.tellExit(p)
	s.unwatch(p.socket)
	s.closeSocket(p)
}

// leaveGroup takes down what the cgroup says, and removes it.
func (s *shepherd) leaveGroup(p *program) {
	delete(s.emptying, p)
	delete(s.byPIDFD, p.group.events)
	_ = unix.EpollCtl(s.ends, unix.EPOLL_CTL_DEL, p.group.events, nil)
	p.group.conclude(&p.exited)
	p.group.discard()
	p.group = nil
}

// tellExit tells the host how a program ended. What lingers keeps its socket,
// by whose end we learn that it is to linger no more.
func (s *shepherd) tellExit(p *program) { s.send(p.socket, p.exited.Encode()) }

// groupLives tells whether an orphan of a program that has been reaped is left
// in its group.
func (s *shepherd) groupLives(p *program) bool {
	pids, _ := s.orphans()
	return slices.ContainsFunc(pids, func(pid int) bool {
		group, err := unix.Getpgid(pid)
		return err == nil && group == p.pid && markOf(pid) == p.mark
	})
}

// treeLives tells whether any orphan of a program is left.
func (s *shepherd) treeLives(p *program) bool {
	if p.group != nil && !p.group.isEmpty() {
		return true
	}
	if p.init.pid > 0 {
		below, sure := childrenOf(p.init.pid)
		return !sure || len(below) > 0
	}
	pids, sure := s.orphans()
	return !sure || slices.ContainsFunc(pids, func(pid int) bool { return markOf(pid) == p.mark })
}

// timers is a heap of programs by deadline.
type timers []*program

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].deadline < t[j].deadline }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}
func (t *timers) Push(x any) {
	p := x.(*program)
	p.index = len(*t)
	*t = append(*t, p)
}
func (t *timers) Pop() any {
	last := len(*t) - 1
	p := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	p.index = -1
	return p
}

func (s *shepherd) arm(p *program, d time.Duration) {
	s.disarm(p)
	if start := now(); int64(d) < 1<<62-start { // else it is beyond all time
		p.deadline = start + int64(d)
		heap.Push(&s.timers, p)
	}
}

func (s *shepherd) disarm(p *program) {
	if p.index >= 0 {
		heap.Remove(&s.timers, p.index)
	}
}

// expireTimers acts on the deadlines that have passed.
func (s *shepherd) expireTimers() {
	for len(s.timers) > 0 && s.timers[0].deadline <= now() {
		p := heap.Pop(&s.timers).(*program)
		if _, waits := s.emptying[p]; waits {
			s.groupChanged(p)
		} else if p.stopping {
			s.kill(p)
		} else {
			s.stop(p, wire.ReasonTimeout)
		}
	}
}

// parseUmask finds the umask in the text of /proc/PID/status, or returns -1.
func parseUmask(status []byte) int {
	_, rest, found := bytes.Cut(status, []byte("\nUmask:\t"))
	if !found {
		return -1
	}
	digits, _, _ := bytes.Cut(rest, []byte("\n"))
	mask, err := strconv.ParseUint(string(digits), 8, 32)
	if err != nil {
		return -1
	}
	return int(mask)
}

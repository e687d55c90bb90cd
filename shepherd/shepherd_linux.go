// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"libnetrunner/core/threads"
	"libnetrunner/core/wire"
)

// Workers are how many execve(2) may hang at once, one less, before programs
// have to queue behind them. Kills never do.
const (
	maxWorkers = 32
	minWorkers = 8 // each keeps a descriptor, which may be few
)

// stuckAfter is how long a fork may take until another worker takes over.
const stuckAfter = 10 * time.Millisecond

// receiveSize is how much is taken from a socket at once. Frames may be larger.
const receiveSize = 64 << 10

// shepherd is all there is. One lock guards it: what is done under it does not
// block. The fork of a program, which may, is done without.
type shepherd struct {
	timerSlack int // of the host, in nanoseconds; 0: that of our threads

	control int
	epoll   int
	ends    int // epoll set of the children's pidfds
	wakeup  int // eventfd that wakes the leader
	timer   int // timerfd of the watch

	mu       mutex
	greeted  bool
	hostGone bool
	host     int // pidfd, -1 when there is none
	guardian int // pidfd, -1 when there is none
	status   int // /proc/PID/status of the host, -1 when there is none
	reader   wire.Reader
	scratch  []byte // what has just been received

	queue    []*request
	bySocket map[int]*program
	byPID    map[int]*program      // by what of it has not been reaped: leader, init
	byPIDFD  map[int]*program      // likewise; and by the events of a cgroup
	emptying map[*program]struct{} // whose trees are gone, but not all in their cgroups
	expected [maxWorkers]int       // how many of those each worker has
	timers   timers

	// Sweeping, see sweep.
	marks       uint64                // the first of this shepherd's
	nextMark    uint64                // of the next program
	alive       map[uint64]bool       // marks of programs whose trees are not to be swept
	draining    map[*program]struct{} // have ended or been killed, their trees are being swept
	waning      map[*program]struct{} // have lingered and got SIGTERM
	terminating []*program            // are to get SIGTERM outside of their groups, too
	quiet       int                   // passes in a row that have seen nothing at all
	lost        bool                  // a pass has seen what it could not attribute
	sweepWanted *sync.Cond
	look        *look // while the ends of programs are taken in, else nil

	// Leadership, see lead.
	token   chan struct{}
	term    uint64    // counts the leaders
	forking bool      // the leader of this term is away
	forked  int64     // since when, see now
	watched bool      // the timer of the watch runs
	stuck   int       // former leaders that still are
	scripts []*script // of each worker

	// The open lists of the children that the kernel gave to the main thread,
	// and of those of each worker.
	adopted     int
	forkedLists []int
	loadavg     int // /proc/loadavg, see isChildless

	// Of the reaper, see reaper_linux.go.
	anchor         int // process id
	strangersTimer int // timerfd
	strangersIn    time.Duration
}

// request is a Spawn that waits for its fork.
type request struct {
	spawn       *wire.SpawnRequest
	descriptors []int
}

func (r *request) close() {
	for _, fd := range r.descriptors {
		_ = unix.Close(fd)
	}
	r.descriptors = nil
}

func newShepherd(control int) (*shepherd, error) {
	s := &shepherd{
		control: control, host: -1, guardian: -1, status: -1,
		scratch:  make([]byte, receiveSize),
		bySocket: make(map[int]*program),
		byPID:    make(map[int]*program),
		byPIDFD:  make(map[int]*program),
		emptying: make(map[*program]struct{}),
		draining: make(map[*program]struct{}),
		waning:   make(map[*program]struct{}),
		alive:    make(map[uint64]bool),
		marks:    newMarks(),
		token:    make(chan struct{}, 1),
	}
	s.nextMark = s.marks
	workers := maxWorkers
	if fileLimit() < manyFiles {
		workers = minWorkers
	}
	s.scripts = make([]*script, workers)
	s.forkedLists = make([]int, workers)
	s.sweepWanted = sync.NewCond(&s.mu)
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if s.ends, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if s.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd2: %w", err)
	}
	if s.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	if s.strangersTimer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	if err := s.expectEvent(s.strangersTimer, unix.EPOLLIN); err != nil {
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	for _, fd := range []int{s.control, s.wakeup} {
		if err := s.watchDescriptor(fd); err != nil {
			return nil, fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	if s.adopted, err = childList(os.Getpid()); err != nil {
		return nil, fmt.Errorf("list of children: %w", err)
	}
	if s.loadavg, err = unix.Open("/proc/loadavg", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open /proc/loadavg: %w", err)
	}
	if err := s.watchGuardian(); err != nil {
		return nil, err
	}
	return s, nil
}

// start starts all but the reaper, each on a thread of its own. The caller's is
// the main thread.
func (s *shepherd) start() error {
	var ready sync.WaitGroup
	errs := make([]error, len(s.scripts))
	ready.Add(len(s.scripts) + 3)
	for i := range s.scripts {
		s.scripts[i] = new(script)
		go func() {
			s.ownThread() // for ever: see script.run
			s.forkedLists[i], errs[i] = childList(unix.Gettid())
			ready.Done()
			for range s.token {
				s.lead(i)
			}
		}()
	}
	for _, run := range []func(){s.watch, s.sweep, s.awaitEnds} {
		go func() {
			s.ownThread()
			ready.Done()
			run()
		}()
	}
	ready.Wait()
	threads.Make(spareThreads, s.hurry) // beside those, which keep theirs
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("list of children: %w", err)
	}
	s.ownThread()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.anchor = newAnchor(); s.anchor < 0 {
		return fmt.Errorf("clone of the anchor: %w", unix.Errno(-s.anchor))
	}
	s.token <- struct{}{}
	return nil
}

// ownThread takes the calling goroutine's thread for ever.
func (s *shepherd) ownThread() {
	runtime.LockOSThread()
	s.hurry()
}

// hurry gives the calling thread the timers of the host, which programs inherit:
// see slackArgument.
func (s *shepherd) hurry() { _ = threads.SetTimerSlack(s.timerSlack) }

func (s *shepherd) watchDescriptor(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &event)
}

// forksPerTerm is how many programs a worker forks before it is another's turn.
// So none of them has many children, whose list is read when one of them ends.
const forksPerTerm = 32

// lead serves the sockets until it is another worker's turn, or this one has
// been away in a fork for so long that another one leads.
//
// There is one thread because most forks take less time than it takes to wake
// another. A program on a dead file server, though, can hold its execve(2) for
// ever: then the watch makes a standby the leader, and this worker, when it
// comes back, hands in what became of its fork and stands by.
func (s *shepherd) lead(worker int) {
	var events [64]unix.EpollEvent
	timeout, forks := 0, 0
	for {
		n, err := unix.EpollWait(s.epoll, events[:], timeout)
		if err != nil {
			n = 0 // EINTR
		}
		s.mu.Lock()
		for _, event := range events[:n] {
			s.serve(int(event.Fd))
		}
		s.expireTimers()
		leading := true
		if s.mayFork() {
			request := s.queue[0]
			s.queue[0] = nil
			s.queue = s.queue[1:]
			leading = s.spawn(worker, request)
			if forks++; leading && forks == forksPerTerm {
				s.handOver()
				leading = false
			}
		}
		timeout = s.timeout()
		s.exitWhenDone()
		s.mu.Unlock()
		if !leading {
			return
		}
	}
}

// handOver makes a standby the leader.
func (s *shepherd) handOver() {
	s.term++
	s.token <- struct{}{} // has room: only a leader's successor takes it
}

// mayFork keeps one worker from ever getting stuck.
func (s *shepherd) mayFork() bool { return len(s.queue) > 0 && s.stuck < len(s.scripts)-1 }

// timeout is how long the leader may sleep, in milliseconds.
func (s *shepherd) timeout() int {
	if s.mayFork() {
		return 0
	}
	sleep := time.Duration(math.MaxInt64)
	if len(s.timers) > 0 {
		sleep = max(0, time.Duration(s.timers[0].deadline-now()))
	}
	if sleep == math.MaxInt64 {
		return -1
	}
	// Rounded up, so as not to spin until a deadline has really passed.
	return int(min((sleep+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
}

// now is CLOCK_MONOTONIC in nanoseconds.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// serve handles an event of the leader's epoll set.
func (s *shepherd) serve(fd int) {
	switch {
	case fd == s.control:
		s.serveControl()
	case fd == s.wakeup:
		acknowledge(s.wakeup)
	case fd == s.host, fd == s.guardian:
		s.hostDied()
	default:
		if p := s.bySocket[fd]; p != nil {
			s.serveProgram(p)
		}
	}
}

func (s *shepherd) wake() { notify(s.wakeup) }

// notify makes an eventfd readable, acknowledge ends that.
func notify(eventfd int) {
	one := [8]byte{1}
	_, _ = unix.Write(eventfd, one[:])
}

func acknowledge(eventfd int) {
	var count [8]byte
	_, _ = unix.Read(eventfd, count[:])
}

func (s *shepherd) serveControl() {
	err := s.reader.Read(s.control, s.scratch, s.controlFrame)
	if err != nil && err != unix.EAGAIN {
		s.hostDied()
	}
}

var errHello = errors.New("not the greeting of this version's library")

func (s *shepherd) controlFrame(h wire.Header, payload []byte, descriptors []int) error {
	r := &request{descriptors: descriptors}
	switch {
	case h.Type == wire.TypeHello && !s.greeted:
		return s.greet(payload, r)
	case h.Type != wire.TypeSpawn || !s.greeted:
		r.close()
		return errHello
	}
	if len(descriptors) == 0 && h.Descriptors > 0 {
		// Without even the process socket there is only this way to say so.
		s.send(s.control, (&wire.Failed{Errno: int32(unix.EMFILE), Why: "the shepherd has no descriptors left"}).Encode())
		return nil
	}
	if len(descriptors) == 0 {
		return nil
	}
	full := len(descriptors) != h.Descriptors || slices.Max(descriptors) >= spareFiles()
	if !full {
		var err error
		descriptors[0], err = lasting(descriptors[0]) // the process socket
		full = err != nil
	}
	if full {
		s.refuse(r, unix.EMFILE, "the shepherd has no descriptors left")
		return nil
	}
	spawn, err := wire.ParseSpawn(append([]byte(nil), payload...), len(descriptors))
	if err != nil {
		s.refuse(r, unix.EPROTO, "the shepherd got a "+err.Error())
		return nil
	}
	r.spawn = spawn
	s.queue = append(s.queue, r)
	return nil
}

// greet checks the host's greeting and answers it, also when it does not fit,
// for the host to say what met.
func (s *shepherd) greet(payload []byte, r *request) error {
	answer := wire.Hello{Role: wire.RoleShepherd, Revision: wire.Revision, Version: version, PID: int32(os.Getpid())}
	s.send(s.control, answer.Encode(0))
	hello, err := wire.ParseHello(payload)
	if err != nil || hello.Role != wire.RoleHost || hello.Revision != wire.Revision || hello.Version != version {
		r.close()
		return errHello
	}
	s.greeted = true
	if len(r.descriptors) != 1 {
		r.close()
	} else {
		// The end of the control socket is not enough: a fork of the host may
		// hold a copy of the other end.
		s.host = r.descriptors[0]
		if err := s.watchDescriptor(s.host); err != nil {
			return err
		}
	}
	status, err := unix.Open(fmt.Sprintf("/proc/%d/status", hello.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		s.status = status
	}
	return nil
}

// send sends a frame to the host, which reads. Its socket is never full; if it
// were the host would see the end of it instead.
func (s *shepherd) send(fd int, frame []byte) {
	if n, err := wire.Send(fd, frame, nil); err == unix.EAGAIN || err == nil && n < len(frame) {
		_ = unix.Shutdown(fd, unix.SHUT_WR)
	}
}

// refuse tells the host that a request can't be carried out.
func (s *shepherd) refuse(r *request, errno unix.Errno, why string) {
	s.send(r.descriptors[0], (&wire.Failed{Errno: int32(errno), Why: why}).Encode())
	r.close()
}

// spawn forks a program and tells the host what became of it. It returns false
// when another worker leads by then.
func (s *shepherd) spawn(worker int, r *request) bool {
	forker := s.scripts[worker]
	mark := s.nextMark
	s.nextMark++
	s.alive[mark] = true
	umask := -1
	if r.spawn.Flags&wire.SpawnUmask == 0 {
		umask = s.hostUmask()
	}
	forker.write(r.spawn, r.descriptors, umask, mark)
	term := s.term
	s.forking, s.forked = true, now()
	if !s.watched {
		s.watched = true
		setTimer(s.timer, stuckAfter)
	}
	s.mu.Unlock()

	var leader, init child
	group, err := newCgroup(r.spawn)
	if err == nil {
		forker.group = group
		leader, init, err = forker.run()
	}
	if group != nil && err != nil {
		group.discard()
	}

	s.mu.Lock()
	leading := s.term == term
	if leading {
		s.forking = false
	} else {
		s.stuck--
		s.wake() // one more may fork
	}
	if err == nil {
		for _, c := range []*child{&leader, &init} {
			c.pidfd, _ = lasting(c.pidfd)
		}
		if err = s.expect(leader, init); err != nil && group != nil {
			group.discard()
		}
	}
	forker.forgetProcesses()
	if err != nil {
		s.forgetMark(mark)
		var failed *stepError
		if errors.As(err, &failed) {
			s.refuse(r, failed.errno, failed.Error())
		}
	} else {
		s.started(r, leader, init, group, worker, mark)
	}
	forker.reset()
	if totalLength(r.spawn.Argv)+totalLength(r.spawn.Env) > receiveSize {
		forgetPeak()
	}
	return leading
}

func totalLength(list []wire.CString) int {
	n := 0
	for _, s := range list {
		n += len(s)
	}
	return n
}

// forgetPeak makes this process as small again as it was before a large
// request. A program shares our memory until its execve(2), by which the kernel
// takes our peak for its own (setmax_mm_hiwater_rss in fs/exec.c).
func forgetPeak() {
	debug.FreeOSMemory()
	fd, err := unix.Open("/proc/self/clear_refs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, _ = unix.Write(fd, []byte("5"))
		_ = unix.Close(fd)
	}
}

// watch makes a standby the leader when a fork takes too long. To stop the timer
// after each fork would take longer than to let it expire now and then.
func (s *shepherd) watch() {
	var expirations [8]byte
	for {
		if _, err := unix.Read(s.timer, expirations[:]); err != nil {
			continue // EINTR
		}
		s.mu.Lock()
		left := stuckAfter - time.Duration(now()-s.forked)
		if s.forking && left <= 0 {
			s.forking = false
			s.stuck++
			s.handOver()
		}
		if s.watched = s.forking; s.watched {
			setTimer(s.timer, left)
		}
		s.mu.Unlock()
	}
}

// setTimer has a timerfd expire once; with 0 it never does.
func setTimer(timerfd int, d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	_ = unix.TimerfdSettime(timerfd, 0, &spec, nil)
}

// hostUmask is the umask that the host has now, or -1. There is no other way
// to read it that a host with threads would not notice.
func (s *shepherd) hostUmask() int {
	var buf [512]byte
	if s.status < 0 {
		return -1
	}
	n, err := unix.Pread(s.status, buf[:], 0)
	if err != nil {
		return -1
	}
	return parseUmask(buf[:n])
}

// hostDied kills all that the host has not released. What it has released has
// its grace.
func (s *shepherd) hostDied() {
	if s.hostGone {
		return
	}
	s.hostGone = true
	s.quiet = 0
	for _, r := range s.queue {
		r.close()
	}
	s.queue = nil
	s.reader.Close()
	s.forget(s.control)
	if s.host >= 0 {
		s.forget(s.host)
	}
	if s.guardian >= 0 {
		s.forget(s.guardian)
	}
	for _, p := range s.bySocket {
		s.kill(p) // all, before anything that takes longer
	}
	for _, p := range s.bySocket {
		s.letGo(p)
	}
	s.sweepWanted.Signal()
}

// unwatch takes a descriptor out of the epoll set. Closing alone would not do
// where a fork of the host holds a copy of what is behind it.
func (s *shepherd) unwatch(fd int) {
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

func (s *shepherd) forget(fd int) {
	s.unwatch(fd)
	_ = unix.Close(fd)
}

// exitWhenDone ends the shepherd when nobody needs it any more, and no orphan
// is left that its end would set free.
func (s *shepherd) exitWhenDone() {
	if !s.lastSweep() {
		return
	}
	if orphans, sure := s.orphans(); s.quiet >= quietPasses || sure && len(orphans) == 0 {
		os.Exit(0)
	}
	s.sweepWanted.Signal()
}

// isBusy tells whether there are programs, or will be.
func (s *shepherd) isBusy() bool {
	return s.forking || s.stuck > 0 || len(s.byPID)+len(s.draining)+len(s.emptying)+len(s.bySocket)+len(s.timers) > 0
}

// awaitEnds sleeps until a program has ended, for ever. Not in waitid(2) for
// all children, which looks at each of them, asleep or not.
func (s *shepherd) awaitEnds() {
	var events [64]unix.EpollEvent
	for {
		n, err := unix.EpollWait(s.ends, events[:], -1)
		if err != nil {
			continue // EINTR
		}
		s.mu.Lock()
		s.look = new(look)
		for _, event := range events[:n] {
			fd := int(event.Fd)
			switch p := s.byPIDFD[fd]; {
			case fd == s.strangersTimer:
				s.reapStrangers()
			case p == nil:
			case p.pidfd == fd && !p.ended:
				s.ended(p)
			case p.init.pidfd == fd:
				s.initEnded(p)
			case p.group != nil && p.group.events == fd:
				s.groupChanged(p)
			}
		}
		s.look = nil
		s.exitWhenDone()
		s.mu.Unlock()
	}
}

// expect makes the ends of a program's processes known. If that can't be, it
// kills them.
func (s *shepherd) expect(leader, init child) error {
	for _, c := range []child{leader, init} {
		if c.pid == 0 {
			continue
		}
		if err := s.expectEvent(c.pidfd, unix.EPOLLIN); err != nil {
			leader.discard()
			init.discard()
			return &stepError{errno: err.(unix.Errno), step: step{name: "epoll_ctl"}}
		}
	}
	return nil
}

// expectEvent adds a descriptor to what awaitEnds waits for.
func (s *shepherd) expectEvent(fd int, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	return unix.EpollCtl(s.ends, unix.EPOLL_CTL_ADD, fd, &event)
}

// unexpect lets go of a process that has been reaped. It returns its pidfd, which
// is to be closed.
func (s *shepherd) unexpect(c *child, p *program) (pidfd int) {
	pidfd = c.pidfd
	delete(s.byPID, c.pid)
	delete(s.byPIDFD, pidfd)
	c.pidfd = -1
	s.expected[p.worker]--
	return pidfd
}

// closeEnd closes a pidfd of expect.
func (s *shepherd) closeEnd(pidfd int) {
	// Closing alone would not do while a fork holds a copy.
	_ = unix.EpollCtl(s.ends, unix.EPOLL_CTL_DEL, pidfd, nil)
	_ = unix.Close(pidfd)
}

// inFlight tells whether pid is a child whose worker has not come back.
func (s *shepherd) inFlight(pid int) bool {
	for _, forker := range s.scripts {
		if forker.has(pid) {
			return true
		}
	}
	return false
}

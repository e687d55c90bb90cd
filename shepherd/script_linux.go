// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A script is what a new child does between clone(2) and execve(2), as a table
// of system calls. The child shares the shepherd's memory (CLONE_VM) and its
// parent thread sleeps until it has executed or ended (CLONE_VFORK), so it may
// run no Go code: a few lines of assembly walk the table.
//
// Against syscall.ForkExec this sets what SysProcAttr can't (umask, limits,
// niceness, no_new_privs), tells the step that failed without a pipe, and can
// look through PATH with the program's own permissions. See
// docs/decisions/0002-fork.md.
type script struct {
	rows  []row
	steps []step     // what the rows do, for messages
	keep  [][]uint64 // memory that rows point to

	flags  uintptr // of clone(2), beside the usual
	shares bool    // our table of descriptors, until its first rows
	group  *cgroup // to be born in, or nil

	// The child is the program or, with a PID namespace, its founder. All of
	// these are set from before they run until what became of them is known.
	child   atomic.Int32
	init    atomic.Int32
	program struct {
		pid        atomic.Int32
		row, child int // of the clone(2) that makes it, and of what it does
	}
	pidfd int32 // of the child, by clone3(2), else -1

	failed    *row
	notJoined unix.Errno // the failure is that the child could not move to its cgroup
	args      cloneArgs  // here, as a stack may move under a uintptr
}

// row is one system call. script_linux_*.s know its layout.
type row struct {
	trap, a0, a1, a2, a3 uintptr
	tolerated            uint64 // bit n: go on after errno n
	result               int64  // what it returned, a negative errno for an error
	child                *row   // where to go on if it returned 0, nil: with the next row
}

// step describes a row: "chdir", "/nowhere".
type step struct {
	name    string
	subject any
}

func (s *script) reset() {
	clear(s.rows) // they point to memory that is not ours any more
	s.rows, s.steps, s.keep = s.rows[:0], s.steps[:0], s.keep[:0]
	s.flags, s.shares, s.group, s.program.child = 0, false, nil, 0
}

func (s *script) add(name string, subject any, trap, a0, a1, a2, a3 uintptr) *row {
	s.rows = append(s.rows, row{trap: trap, a0: a0, a1: a1, a2: a2, a3: a3})
	s.steps = append(s.steps, step{name, subject})
	return &s.rows[len(s.rows)-1]
}

func (r *row) tolerate(errnos ...unix.Errno) {
	for _, e := range errnos {
		r.tolerated |= 1 << e
	}
}

// stepError is a step of a script that failed.
type stepError struct {
	errno unix.Errno
	step  step
	final bool // it would fail again
}

func (e *stepError) Error() string {
	what := e.step.name
	if e.step.subject != nil {
		what += fmt.Sprintf(" %v", e.step.subject)
	}
	if len(what) > unix.PathMax {
		// It must fit into the process socket, and nobody wants to read it all.
		what = what[:unix.PathMax] + "..."
	}
	return fmt.Sprintf("%s: %v", what, e.errno)
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// withoutClone3 is set when the kernel, or more likely a container's seccomp
// filter, has refused clone3(2).
var withoutClone3 atomic.Bool

// child is a process that is to be waited for.
type child struct {
	pid   int // 0: there is none
	pidfd int
}

func (c *child) open() error {
	if c.pid == 0 || c.pidfd >= 0 {
		return nil
	}
	var err error
	c.pidfd, err = unix.PidfdOpen(c.pid, 0)
	return err
}

// discard kills and reaps a child.
func (c *child) discard() {
	if c.pid > 0 {
		_ = unix.Kill(c.pid, unix.SIGKILL)
		reapChild(c.pid)
	}
	if c.pidfd >= 0 {
		_ = unix.Close(c.pidfd)
	}
}

// run makes the child and returns the program, and the init of its PID
// namespace, when it has executed. An error is a *stepError; then no child is
// left. The caller is locked to a thread which lives as long as the shepherd, as
// PR_SET_PDEATHSIG is about that thread.
func (s *script) run() (program, init child, err error) {
	pid := s.runOnce()
	if s.shares && s.failed == &s.rows[rowsToUnshare-1] {
		(&child{pid, int(s.pidfd)}).discard()
		s.stopSharing()
		pid = s.runOnce()
	}
	first := &s.rows[0]
	if s.shares {
		first = &s.rows[rowsToUnshare] // one that is not left out
	}
	if s.group != nil && pid > 0 && first.result == notRun {
		// Linux 6.14 and later compare how often our own cgroup has been killed
		// with how often the new one has (kill_seq, in cgroup_css_set_fork), and
		// kill who is born into a group that has been killed before.
		reapChild(pid)
		if s.pidfd >= 0 {
			_ = unix.Close(int(s.pidfd))
			s.pidfd = -1
		}
		pid = s.clone()
	}
	none := child{pidfd: -1}
	if pid < 0 {
		if errno := unix.Errno(-pid); s.group != nil && s.flags == 0 && errno != unix.ENOMEM {
			return none, none, s.group.joinError(errno)
		}
		return none, none, &stepError{errno: unix.Errno(-pid), step: s.cloneStep()}
	}
	program, init = child{pid, int(s.pidfd)}, none
	if s.program.child > 0 {
		founder := program
		program.pid, program.pidfd = int(s.program.pid.Load()), -1
		init.pid = int(s.init.Load())
		defer founder.discard()
	}
	if s.notJoined != 0 {
		err = s.group.joinError(s.notJoined)
	} else if s.failed != nil {
		err = s.failure()
	} else if errno := cmp.Or(program.open(), init.open()); errno != nil {
		err = &stepError{errno: errno.(unix.Errno), step: step{name: "pidfd_open"}}
	}
	if err != nil {
		// The init can't be reaped as long as there is anything in its namespace.
		program.discard()
		init.discard()
		return none, none, err
	}
	return program, init, nil
}

// runOnce makes the child, which walks the rows. It returns its process id or a
// negative errno.
func (s *script) runOnce() int {
	s.forgetProcesses()
	s.failed, s.notJoined = nil, 0
	for i := range s.rows {
		s.rows[i].result = notRun
	}
	s.pidfd = -1

	pid := -int(unix.ENOSYS)
	if !withoutClone3.Load() {
		pid = s.clone3()
	}
	if pid == -int(unix.ENOSYS) || pid == -int(unix.EPERM) {
		if pid = s.clone(); pid > 0 {
			withoutClone3.Store(true)
		}
	}
	return pid
}

// notRun is the result of a row that has not been run.
const notRun = math.MinInt64

func (s *script) forgetProcesses() {
	s.child.Store(0)
	s.program.pid.Store(0)
	s.init.Store(0)
}

// has tells whether pid is a process of a run whose end has not been told yet.
func (s *script) has(pid int) bool {
	return int(s.child.Load()) == pid || int(s.program.pid.Load()) == pid || int(s.init.Load()) == pid
}

func reapChild(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.EINTR {
			return
		}
	}
}

func (s *script) cloneFlags() uintptr {
	flags := s.flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PARENT_SETTID
	if s.shares {
		flags |= unix.CLONE_FILES
	}
	return flags
}

func (s *script) clone3() int {
	s.args = cloneArgs{
		// CLONE_CLEAR_SIGHAND: no handler of ours can run in the child.
		flags:      uint64(s.cloneFlags()) | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PIDFD,
		pidfd:      uint64(uintptr(unsafe.Pointer(&s.pidfd))),
		parentTID:  uint64(uintptr(unsafe.Pointer(&s.child))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if s.group != nil {
		s.args.flags |= unix.CLONE_INTO_CGROUP
		s.args.cgroup = uint64(s.group.fd)
	}
	return s.fork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&s.args)), unsafe.Sizeof(s.args), 0, s.rows)
}

// clone is clone3 by older means: the signal handlers are reset one by one, and
// the child moves itself to its cgroup.
func (s *script) clone() int {
	flags := s.cloneFlags() | uintptr(unix.SIGCHLD)
	rows := make([]row, 0, lastSignal+len(s.rows))
	for sig := uintptr(1); sig <= lastSignal; sig++ {
		r := row{trap: unix.SYS_RT_SIGACTION, a0: sig, a1: uintptr(unsafe.Pointer(&defaultAction)), a3: 8}
		r.tolerate(unix.EINVAL) // SIGKILL, SIGSTOP
		rows = append(rows, r)
	}
	if s.group != nil {
		rows = append(rows, row{trap: unix.SYS_WRITE, a0: uintptr(s.group.procs), a1: uintptr(unsafe.Pointer(&zeroText)), a2: 1})
	}
	resets := len(rows)
	rows = append(rows, s.rows...)
	pid := s.fork(unix.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(&s.child)), rows)
	copy(s.rows, rows[resets:])
	if s.failed != nil {
		index := int((uintptr(unsafe.Pointer(s.failed)) - uintptr(unsafe.Pointer(&rows[0]))) / unsafe.Sizeof(row{}))
		if index < resets {
			s.notJoined = unix.Errno(-s.failed.result)
			index = resets
		}
		s.failed = &s.rows[index-resets]
	}
	return pid
}

const lastSignal = 64

// zeroText means the writer itself, to cgroup.procs.
var zeroText = [1]byte{'0'}

// defaultAction is the kernel's struct sigaction for SIG_DFL.
var defaultAction [4]uint64

// ignoreAction is that for SIG_IGN.
var ignoreAction = [4]uint64{1}

// fork makes the child, which walks rows; the last of them are s.rows.
func (s *script) fork(trap, a0, a1, a2 uintptr, rows []row) int {
	first := len(rows) - len(s.rows)
	if s.shares {
		rows[first].child = &rows[first+rowsToUnshare]
	}
	if p := &s.program; p.child > 0 {
		rows[first+p.row].child = &rows[first+p.child]
	}
	// A signal that came between clone(2) and the child's reset of its handlers
	// would run one of ours on our stack.
	all, old := ^uint64(0), uint64(0)
	setMask := func(new, old *uint64) {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
			uintptr(unsafe.Pointer(new)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	}
	setMask(&all, &old)
	pid := blockingVfork(trap, a0, a1, a2, &rows[0], &s.failed)
	setMask(&old, nil)
	runtime.KeepAlive(s)
	return int(pid)
}

// failure finds out what to say: of a search through PATH that found nothing
// not the last failure but, as execvp(3) does, a file that was not permitted.
func (s *script) failure() error {
	index := int((uintptr(unsafe.Pointer(s.failed)) - uintptr(unsafe.Pointer(&s.rows[0]))) / unsafe.Sizeof(row{}))
	errno := unix.Errno(-s.failed.result)
	if s.failed.trap == unix.SYS_EXECVE && lookFurther(errno) {
		for _, r := range s.rows[:index] {
			if r.trap == unix.SYS_EXECVE && r.result == -int64(unix.EACCES) {
				errno = unix.EACCES
			}
		}
	}
	return &stepError{errno: errno, step: s.steps[index]}
}

// blockingVfork is vforkScript with the Go scheduler told that this thread is
// away in a system call, for as long as an execve(2) from a dead file server
// takes: collection and the other threads go on.
//
//go:nosplit
//go:norace
func blockingVfork(trap, a0, a1, a2 uintptr, rows *row, failed **row) uintptr {
	entersyscall()
	pid := vforkScript(trap, a0, a1, a2, 0, 0, rows, failed)
	exitsyscall()
	return pid
}

//go:noescape
func vforkScript(trap, a0, a1, a2, a3, a4 uintptr, rows *row, failed **row) (pid uintptr)

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

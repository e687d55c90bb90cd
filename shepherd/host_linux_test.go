// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// hang is how long something may take before a test gives up. It is for
// machines in trouble and no measure of anything.
const hang = time.Minute

// tester is what the helpers below need of a *testing.T. A helper program that
// plays a host has another one.
type tester interface {
	require.TestingT
	Helper()
	Cleanup(func())
}

// host is this process in the role of a host: with a Runner, and with the
// shepherds that it has started. At the test's end all of that must be gone.
type host struct {
	*core.Runner
	t    tester
	role string // of its shepherds

	unprivileged bool // whatever this process is
	groups       []uint32
	unguarded    bool // its shepherds have no guardian

	mu        sync.Mutex
	shepherds []*keeper
	open      map[int]bool // the descriptors that the Runner has not closed
	processes []*process
}

// keeper is a guardian's process, with a shepherd below it; or a shepherd's.
type keeper struct {
	*exec.Cmd
	control  int // the host's end
	stderr   *os.File
	shepherd int  // its process id, once it is known
	killed   bool // it, or its guardian, by the test
	waited   bool
}

// pid is the shepherd's process id.
func (h *host) pid(k *keeper) int {
	h.t.Helper()
	if k.shepherd == 0 && h.unguarded {
		k.shepherd = k.Process.Pid
	}
	await(h.t, "the guardian to start a shepherd", func() bool {
		if k.shepherd == 0 {
			for _, pid := range children(h.t, k.Process.Pid) {
				k.shepherd = pid
			}
		}
		return k.shepherd != 0
	})
	return k.shepherd
}

// shepherdPID is that of the first shepherd.
func (h *host) shepherdPID() int {
	h.t.Helper()
	return h.pid(h.shepherds[0])
}

// on makes the checks of a host fail a subtest.
func (h *host) on(t *testing.T) {
	t.Helper()
	saved := h.t
	h.t = t
	t.Cleanup(func() { h.t = saved })
}

// newHost returns a host, and arranges for the checks at the end: the
// shepherds end by themselves, without a word of complaint, when the host is
// done with them, and no process and no descriptor is left.
//
// Its shepherds have no guardian, for speed.
func newHost(t testing.TB) *host {
	t.Helper()
	h := newHostWith(t, "shepherd")
	h.unguarded = true
	return h
}

// newHostWith returns a host whose shepherds have a role, and a guardian.
func newHostWith(t testing.TB, role string) *host {
	t.Helper()
	before := descriptors(t)
	h := hostOf(t, role)
	t.Cleanup(func() {
		h.end()
		require.Equal(t, before, descriptors(t), "descriptors at the test's end")
	})
	return h
}

func hostOf(t tester, role string) *host {
	h := &host{t: t, role: role, open: make(map[int]bool)}
	h.Runner = core.NewRunner(version, func(fd int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.open, fd)
		_ = unix.Close(fd)
	})
	return h
}

// end lets go of everything, as the end of a host's process does.
func (h *host) end() {
	h.t.Helper()
	for _, p := range h.processes {
		p.closeEnds() // without Release: the shepherd kills at once
	}
	h.closeControls()
	for _, k := range h.shepherds {
		h.awaitEnd(k)
	}
	h.requireNoChildren()
}

// closeControls closes what the Runner would have closed with its process.
func (h *host) closeControls() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for fd := range h.open {
		_ = unix.Close(fd)
	}
	clear(h.open)
}

// awaitEnd waits until a shepherd has ended.
func (h *host) awaitEnd(k *keeper) {
	h.t.Helper()
	if k.waited {
		return
	}
	k.waited = true
	timer := time.AfterFunc(hang, func() { _ = k.Process.Signal(unix.SIGQUIT); _ = k.Process.Kill() })
	err := k.Wait()
	inTime := timer.Stop()
	said := contents(h.t, k.stderr)
	require.NoError(h.t, k.stderr.Close())
	require.True(h.t, inTime, "the shepherd does not end; it said: %s", said)
	require.Empty(h.t, said, "the shepherd said something")
	if !k.killed {
		require.NoError(h.t, err, "the shepherd's end")
	}
}

// requireNoChildren checks that no process is left: whatever a shepherd leaves
// behind has become a child of this process.
func (h *host) requireNoChildren() {
	h.t.Helper()
	// Without a guardian a shepherd's anchor becomes ours, too.
	killed := h.unguarded || slices.ContainsFunc(h.shepherds, func(k *keeper) bool { return k.killed })
	var left []string
	for _, pid := range children(h.t, unix.Getpid()) {
		// Whoever's parent the test has killed ends by himself, and is ours to
		// reap.
		if killed {
			await(h.t, describe(pid)+" to end", func() bool { return state(pid) == 'Z' })
			_, err := unix.Wait4(pid, nil, 0, nil)
			require.NoError(h.t, err)
			continue
		}
		left = append(left, describe(pid))
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
	require.Empty(h.t, left, "processes are left behind")
}

// startShepherd starts a shepherd as the library does, and returns it with the
// host's end of its control socket.
func (h *host) startShepherd() *keeper {
	h.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(h.t, err)
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	// By this name the file can be executed also from a directory of root's.
	k := &keeper{Cmd: exec.Command("/proc/self/exe"), control: pair[0], stderr: newFile(h.t)}
	k.Args = []string{h.role, launchArgument}
	if h.unguarded {
		k.Args = k.Args[:1]
	}
	k.Env = environment
	k.ExtraFiles = []*os.File{theirs}
	k.Stderr = k.stderr
	k.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: h.credential()}
	require.NoError(h.t, k.Start())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[k.control] = true
	h.shepherds = append(h.shepherds, k)
	return k
}

// shepherdPath only names the shepherd here.
const shepherdPath = "/usr/libexec/netrunner-shepherd"

// process is a program that the host runs.
type process struct {
	*core.Process
	t      tester
	host   *host
	output [3]bytes.Buffer // what has been read and not looked at
	closed bool
}

// searchPath is where the tests' programs are.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// prepare is Prepare; stderr goes where stdout goes unless o says otherwise.
func (h *host) prepare(o core.Options) *process {
	h.t.Helper()
	if o.Env == nil {
		o.Env = append([]string{searchPath}, environment...)
	}
	if o.Stderr.Mode == core.StdioAuto && o.Flags&core.PTY == 0 {
		o.Stderr.Mode = core.StdioStdout
	}
	made, err := h.Prepare(&o, shepherdPath)
	require.NoError(h.t, err)
	p := &process{Process: made, t: h.t, host: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes = append(h.processes, p)
	return p
}

// spawn asks for a program, and does not wait for it.
func (h *host) spawn(o core.Options) *process {
	h.t.Helper()
	p := h.prepare(o)
	p.launch()
	return p
}

func (p *process) launch() {
	p.t.Helper()
	for {
		need, err := p.Launch()
		require.NoError(p.t, err)
		switch need.What {
		case core.NeedNothing:
			return
		case core.NeedShepherd:
			require.NoError(p.t, p.Adopt(p.host.startShepherd().control, -1))
		case core.NeedRoom:
			require.True(p.t, pollFor(need.Socket, unix.POLLOUT, hang), "the shepherd does not read")
		}
	}
}

// run runs a program that gets started.
func (h *host) run(o core.Options) *process {
	h.t.Helper()
	p := h.spawn(o)
	p.awaitState("its start", func(s core.State) bool { return s.Phase != core.Starting })
	return p
}

// command and shell are Options for a program and for a shell script.
func command(argv ...string) core.Options { return core.Options{Argv: argv} }

func shell(script string, argv ...string) core.Options {
	return command(append([]string{"sh", "-c", script, "sh"}, argv...)...)
}

// helper is one of the programs that the test binary is, see roles.
func (h *host) helper(name string, argv ...string) core.Options {
	return core.Options{File: self(h.t), Argv: append([]string{name}, argv...)}
}

// with changes Options.
func with(o core.Options, change func(o *core.Options)) core.Options {
	change(&o)
	return o
}

// awaitState waits until the process is as wanted. It must not fail before.
func (p *process) awaitState(what string, wanted func(s core.State) bool) core.State {
	p.t.Helper()
	for deadline := time.Now().Add(hang); ; {
		s := p.Poll()
		if s.Phase == core.Failed {
			require.NoError(p.t, s.Failure, "waiting for %s", what)
		}
		if wanted(s) {
			return s
		}
		require.False(p.t, s.Final(), "waiting for %s, and it is %+v", what, s)
		require.True(p.t, time.Now().Before(deadline), "waiting for %s in vain", what)
		pollFor(p.Socket(), unix.POLLIN, time.Second)
	}
}

// wait waits for the end.
func (p *process) wait() wire.Exited {
	p.t.Helper()
	return p.awaitState("its end", func(s core.State) bool { return s.Phase == core.Ended }).Exit
}

// requireEnd waits for the end and checks how it was.
func (p *process) requireEnd(code, signal int, reason wire.Reason) {
	p.t.Helper()
	exit := p.wait()
	require.Equal(p.t, []int{code, signal, int(reason)}, []int{int(exit.Code), int(exit.Signal), int(exit.Reason)}, "code, signal and reason")
}

// failure waits for the failure to start it, and returns it.
func (p *process) failure() *core.Error {
	p.t.Helper()
	for deadline := time.Now().Add(hang); ; {
		s := p.Poll()
		if s.Phase == core.Failed {
			return s.Failure
		}
		require.Equal(p.t, core.Starting, s.Phase, "it should have failed")
		require.True(p.t, time.Now().Before(deadline), "waiting for its failure in vain")
		pollFor(p.Socket(), unix.POLLIN, time.Second)
	}
}

func (p *process) requireFailure(errno unix.Errno, why string) {
	p.t.Helper()
	failure := p.failure()
	require.Equal(p.t, why, failure.Why)
	require.Equal(p.t, errno, failure.Errno)
}

// pid is that of a program which has been started.
func (p *process) pid() int {
	p.t.Helper()
	return p.awaitState("its start", func(s core.State) bool { return s.PID != 0 }).PID
}

// signal sends a signal and returns what the shepherd answered.
func (p *process) signal(number unix.Signal) unix.Errno {
	p.t.Helper()
	sequence, err := p.Signal(int(number))
	if err != nil {
		require.ErrorIs(p.t, err, unix.ESRCH)
		return unix.ESRCH
	}
	s := p.awaitState("an answer", func(s core.State) bool { return s.Answered == sequence || s.Phase == core.Ended })
	if s.Answered != sequence {
		return unix.ESRCH
	}
	return s.AnswerErrno
}

func (p *process) stop(reason wire.Reason) {
	p.t.Helper()
	require.NoError(p.t, p.Stop(reason))
}

// release ends the use of the process, as nr_release() does.
func (p *process) release() {
	p.Release()
	p.closeEnds()
}

// closeEnds closes what is the caller's.
func (p *process) closeEnds() {
	if p.closed {
		return
	}
	p.closed = true
	_ = unix.Close(p.Socket())
	for _, s := range p.Streams() {
		if s.FD >= 0 {
			_ = unix.Close(s.FD)
		}
	}
	if p.Master() >= 0 {
		_ = unix.Close(p.Master())
	}
}

// write writes all of text to the program's stdin.
func (p *process) write(text string) {
	p.t.Helper()
	fd := p.Streams()[core.Stdin].FD
	for len(text) > 0 {
		n, err := unix.Write(fd, []byte(text))
		if err == unix.EAGAIN {
			require.True(p.t, pollFor(fd, unix.POLLOUT, hang), "the program does not read")
			continue
		}
		require.NoError(p.t, err)
		text = text[n:]
	}
}

// fill reads once from a stream. It returns io.EOF at the end.
func (p *process) fill(stream int) error {
	p.t.Helper()
	fd := p.Streams()[stream].FD
	var buf [64 << 10]byte
	for {
		n, err := unix.Read(fd, buf[:])
		switch {
		case n > 0:
			p.output[stream].Write(buf[:n])
			return nil
		case err == nil, err == unix.EIO: // of a terminal
			return io.EOF
		case err != unix.EAGAIN && err != unix.EINTR:
			require.NoError(p.t, err)
		}
		require.True(p.t, pollFor(fd, unix.POLLIN, hang), "the program does not write")
	}
}

// line reads a line from the program's stdout, without its end.
func (p *process) line() string {
	p.t.Helper()
	for {
		text := p.output[core.Stdout].String()
		if line, _, found := strings.Cut(text, "\n"); found {
			p.output[core.Stdout].Next(len(line) + 1)
			return strings.TrimSuffix(line, "\r")
		}
		require.NoError(p.t, p.fill(core.Stdout), "the output ends: %q", text)
	}
}

// requireLine reads a line that must be this one.
func (p *process) requireLine(line string) {
	p.t.Helper()
	require.Equal(p.t, line, p.line())
}

// number reads a line that is a number.
func (p *process) number() int {
	p.t.Helper()
	n, err := strconv.Atoi(p.line())
	require.NoError(p.t, err)
	return n
}

// rest reads a stream to its end.
func (p *process) rest(stream int) string {
	p.t.Helper()
	for p.fill(stream) == nil {
		continue
	}
	return p.output[stream].String()
}

func (p *process) text() string { p.t.Helper(); return p.rest(core.Stdout) }

// closeStdin gives the program the end of its input.
func (p *process) closeStdin() {
	p.t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	require.NoError(p.t, err)
	require.NoError(p.t, unix.Dup3(null, p.Streams()[core.Stdin].FD, unix.O_CLOEXEC)) // the number stays ours
	require.NoError(p.t, unix.Close(null))
}

// await waits until a condition holds. There is nothing to be woken by.
func await(t tester, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !condition(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "waiting for %s in vain", what)
	}
}

// pollFor waits until fd is ready, and tells whether it is.
func pollFor(fd int, events int16, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(left.Milliseconds()))
		if n > 0 {
			return true
		}
		if err != unix.EINTR && left == 0 {
			return false
		}
	}
}

// mortal is a process whose end is watched, whoever's child it is.
type mortal struct {
	pid   int
	pidfd int // -1: it was gone already
}

func watch(t tester, pid int) mortal {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return mortal{pid, -1}
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return mortal{pid, fd}
}

// dead tells whether it has ended. It may not have been reaped.
func (m mortal) dead() bool { return m.pidfd < 0 || pollFor(m.pidfd, unix.POLLIN, 0) }

// gone tells whether it has been reaped too.
func (m mortal) gone() bool {
	return m.pidfd < 0 || unix.PidfdSendSignal(m.pidfd, 0, nil, 0) == unix.ESRCH
}

func requireDead(t tester, ms ...mortal) {
	t.Helper()
	for _, m := range ms {
		require.True(t, m.dead(), "%s should be dead", describe(m.pid))
	}
}

func requireAlive(t tester, ms ...mortal) {
	t.Helper()
	for _, m := range ms {
		require.False(t, m.dead(), "process %d should live", m.pid)
	}
}

func awaitDead(t tester, ms ...mortal) {
	t.Helper()
	for _, m := range ms {
		await(t, "the end of "+describe(m.pid), m.dead)
	}
}

func awaitGone(t tester, ms ...mortal) {
	t.Helper()
	for _, m := range ms {
		await(t, "the reaping of "+describe(m.pid), m.gone)
	}
}

// status is a field of /proc/PID/status.
func status(t tester, pid int, field string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, field+":"); found {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	require.FailNow(t, "no "+field+" in /proc/PID/status")
	return ""
}

// stat is the fields of /proc/PID/stat from the third on.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// state is a process's: 'R', 'S', 'T', 'Z', or 0 when there is none.
func state(pid int) byte {
	if fields := stat(pid); len(fields) > 0 {
		return fields[0][0]
	}
	return 0
}

func describe(pid int) string {
	command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return fmt.Sprintf("process %d (%c, %q)", pid, state(pid), bytes.ReplaceAll(command, []byte{0}, []byte{' '}))
}

// children are those of a process.
func children(t tester, pid int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	var all []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		all = append(all, parsePIDs(text)...)
	}
	return all
}

// programs are a shepherd's children but for its anchor.
func programs(t tester, shepherd int) []int {
	t.Helper()
	return slices.DeleteFunc(children(t, shepherd), isAnchor)
}

// isAnchor tells whether a child of a shepherd is its anchor, which has the
// shepherd's name.
func isAnchor(pid int) bool {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return string(comm) == "netrunner-sheph\n"
}

// files are the open descriptors of a process, and what they are of.
func files(t tester, pid int) map[int]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	open := make(map[int]string)
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			fd, err := strconv.Atoi(e.Name())
			require.NoError(t, err)
			open[fd] = target
		}
	}
	return open
}

// descriptors are our own.
func descriptors(t tester) map[int]string {
	t.Helper()
	return files(t, unix.Getpid()) // ReadDir's is closed when its link is looked at
}

// requireFiles waits until a process has the descriptors that it had before: it
// may have been about to close some, and look into /proc now and then.
func requireFiles(t tester, pid int, before map[int]string) {
	t.Helper()
	for deadline := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		if now := files(t, pid); maps.Equal(before, now) || time.Now().After(deadline) {
			require.Equal(t, before, now, "the descriptors of %s", describe(pid))
			return
		}
	}
}

func sortedKeys(m map[int]string) []int { return slices.Sorted(maps.Keys(m)) }

// newFile is a file without a name.
func newFile(t tester) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("file", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	return os.NewFile(uintptr(fd), "file")
}

func contents(t tester, f *os.File) string {
	t.Helper()
	_, err := f.Seek(0, io.SeekStart)
	require.NoError(t, err)
	text, err := io.ReadAll(f)
	require.NoError(t, err)
	return string(text)
}

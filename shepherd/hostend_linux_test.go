// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// When the control socket ends all programs die at once, whatever they ignore,
// and so does what they have left behind in their groups.
func TestControlSocketEnds(t *testing.T) {
	h := newHost(t)
	var all []mortal
	for range 5 {
		p := h.run(with(shell(`sleep 1000 & echo $!; `+stubborn), func(o *core.Options) { o.KillTimeout = long }))
		all = append(all, watch(t, p.pid()), watch(t, p.number()))
		p.requireLine("ready")
	}
	p := h.run(with(shell(`sleep 1000 & echo $!`), func(o *core.Options) { o.Flags, o.KillTimeout = core.Linger, long }))
	all = append(all, watch(t, p.number()))
	p.requireEnd(0, -1, wire.ReasonOwn)
	requireAlive(t, all...)
	h.closeControls()
	awaitGone(t, all...)
	h.awaitEnd(h.shepherds[0])
}

// A process socket that ends without Release is one that nobody can ask about
// any more: its program dies, and no other.
func TestProcessSocketEnds(t *testing.T) {
	h := newHost(t)
	sibling := h.runCat(func(*core.Options) {})
	p := h.run(with(shell(stubborn), func(o *core.Options) { o.KillTimeout = long }))
	leader := watch(t, p.pid())
	p.requireLine("ready")
	p.closeEnds()
	awaitGone(t, leader)
	sibling.write("still there\n")
	sibling.requireLine("still there")
}

// helperTester is the tester of a helper program.
type helperTester struct{}

func (helperTester) Helper()        {}
func (helperTester) Cleanup(func()) {}
func (helperTester) FailNow()       { os.Exit(98) }
func (helperTester) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func init() {
	// host runs programs and tells the process ids: of the guardian, of a fork
	// of its own that holds copies of its descriptors, if told to, of the
	// shepherd, and of everything below. Then it does as it is told on stdin.
	roles["host"] = func() {
		h := hostOf(helperTester{}, "shepherd")
		pids := []int{0}
		var copies []*os.File
		for range 3 {
			p := h.run(with(shell(`sleep 1000 & echo $!; `+stubborn), func(o *core.Options) { o.KillTimeout = long }))
			pids = append(pids, p.pid(), p.number())
			p.requireLine("ready")
			copies = append(copies, os.NewFile(uintptr(p.Socket()), "process"))
		}
		k := h.shepherds[0]
		pids[0] = h.shepherdPID()
		copies = append(copies, os.NewFile(uintptr(k.control), "control"))
		fork := 0
		if os.Args[1] == "with copies" {
			c := exec.Command("sleep", "1000")
			c.ExtraFiles = copies
			must(c.Start())
			fork = c.Process.Pid
		}
		fmt.Println(k.Process.Pid, fork, strings.Trim(fmt.Sprint(pids), "[]"))
		switch what, _ := bufio.NewReader(os.Stdin).ReadString('\n'); what {
		case "exit\n":
			os.Exit(0)
		case "exec\n":
			must(unix.Exec("/bin/sh", []string{"sh", "-c", "exec sleep 1000"}, os.Environ()))
		}
		select {} // to be killed
	}
}

// However a host ends, all that it has run ends.
func TestHostEnds(t *testing.T) {
	for _, copies := range []string{"without copies", "with copies"} {
		for name, end := range map[string]func(t *testing.T, host *exec.Cmd, in io.Writer){
			"SIGKILL": func(t *testing.T, host *exec.Cmd, _ io.Writer) { require.NoError(t, host.Process.Kill()) },
			"SIGSEGV": func(t *testing.T, host *exec.Cmd, _ io.Writer) { require.NoError(t, host.Process.Signal(unix.SIGSEGV)) },
			"exit":    func(t *testing.T, _ *exec.Cmd, in io.Writer) { _, _ = io.WriteString(in, "exit\n") },
			// No death: only the end of the sockets, which are close-on-exec, tells.
			"exec": func(t *testing.T, _ *exec.Cmd, in io.Writer) { _, _ = io.WriteString(in, "exec\n") },
		} {
			if copies == "with copies" && name == "exec" {
				continue // nothing has ended then
			}
			t.Run(name+" "+copies, func(t *testing.T) {
				before := descriptors(t)
				host := exec.Command(self(t))
				host.Args = []string{"host", copies}
				host.Env = append([]string{searchPath, "GOTRACEBACK=none"}, environment...)
				host.Stderr = newFile(t)
				in, err := host.StdinPipe()
				require.NoError(t, err)
				out, err := host.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, host.Start())
				line, err := bufio.NewReader(out).ReadString('\n')
				require.NoError(t, err, "the host says: %s", contents(t, host.Stderr.(*os.File)))
				var all []mortal
				for _, field := range strings.Fields(line) {
					pid, err := strconv.Atoi(field)
					require.NoError(t, err)
					all = append(all, mortal{pid, -1})
					if pid != 0 {
						all[len(all)-1] = watch(t, pid)
					}
				}
				guardian, fork, below := all[0], all[1], all[2:]
				requireAlive(t, append([]mortal{guardian}, below...)...)

				end(t, host, in)
				awaitGone(t, below...)
				awaitDead(t, guardian)
				if copies == "with copies" {
					requireAlive(t, fork)
					require.NoError(t, unix.Kill(fork.pid, unix.SIGKILL))
					awaitDead(t, fork)
				}
				if name == "exec" {
					require.NoError(t, host.Process.Kill())
				}
				_ = host.Wait()

				// Both are ours now, as their parent has died.
				for _, m := range []mortal{guardian, fork} {
					if m.pid == 0 {
						continue
					}
					var status unix.WaitStatus
					_, err := unix.Wait4(m.pid, &status, 0, nil)
					require.NoError(t, err)
					if m == guardian {
						require.Equal(t, 0, status.ExitStatus(), "it has ended by itself")
					}
				}
				require.Empty(t, children(t, unix.Getpid()))
				require.NoError(t, host.Stderr.(*os.File).Close())
				for _, m := range all {
					_ = unix.Close(m.pidfd)
				}
				require.Equal(t, before, descriptors(t))
			})
		}
	}
}

// When the shepherd or its guardian is killed all programs die with it, with
// all that is below them. The host is told that it knows nothing, and the next
// program gets a new shepherd.
func TestShepherdIsKilled(t *testing.T) {
	for name, victim := range map[string]func(h *host) int{
		"shepherd": func(h *host) int { return h.shepherdPID() },
		"guardian": func(h *host) int { return h.shepherds[0].Process.Pid },
	} {
		t.Run(name, func(t *testing.T) { testShepherdIsKilled(t, victim) })
	}
}

func testShepherdIsKilled(t *testing.T, victim func(h *host) int) {
	h := newHostWith(t, "shepherd")
	p := h.run(with(shell(`sleep 1000 & echo $!; setsid sleep 1000 & echo $!; `+stubborn), func(o *core.Options) { o.KillTimeout = long }))
	tree := []mortal{watch(t, p.pid()), watch(t, p.number()), watch(t, p.number())}
	p.requireLine("ready")
	k := h.shepherds[0]
	k.killed = true
	h.shepherdPID()
	require.NoError(t, unix.Kill(victim(h), unix.SIGKILL))
	awaitDead(t, tree...)
	for p.Poll().Phase == core.Running {
		require.True(t, pollFor(p.Socket(), unix.POLLIN, hang))
	}
	require.Equal(t, core.Lost, p.Poll().Phase)
	h.awaitEnd(k)

	h.run(shell("exit 3")).requireEnd(3, -1, wire.ReasonOwn)
	require.Len(t, h.shepherds, 2)
	require.Empty(t, p.text())
}

// A host that changes what its programs inherit gets a new shepherd for the
// next ones. The old one ends with its last program.
func TestIdentityChange(t *testing.T) {
	h := newHostWith(t, "shepherd")
	p := h.runCat(func(*core.Options) {})
	first := h.shepherds[0]

	var saved unix.Rlimit
	require.NoError(t, unix.Prlimit(0, unix.RLIMIT_CORE, nil, &saved))
	t.Cleanup(func() { require.NoError(t, unix.Prlimit(0, unix.RLIMIT_CORE, &saved, nil)) })
	changed := saved
	if changed.Cur = 0; saved.Cur == 0 {
		changed.Cur = 1
	}
	require.NoError(t, unix.Prlimit(0, unix.RLIMIT_CORE, &changed, nil))

	q := h.runCat(func(*core.Options) {})
	require.Len(t, h.shepherds, 2)
	var limit unix.Rlimit
	require.NoError(t, unix.Prlimit(q.pid(), unix.RLIMIT_CORE, nil, &limit))
	require.Equal(t, changed, limit)

	p.write("still there\n")
	p.requireLine("still there")
	p.closeStdin()
	p.requireEnd(0, -1, wire.ReasonOwn)
	h.awaitEnd(first)
	q.write("still there\n")
	q.requireLine("still there")
	h.runCat(func(*core.Options) {})
	require.Len(t, h.shepherds, 2)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// long is a grace or a time limit that no test waits for.
const long = time.Hour

// stubborn ignores SIGTERM, with all of its group.
const stubborn = `trap "" TERM; echo ready; while :; do sleep 1000; done`

// polite is the helper program that uses its grace: after SIGTERM it waits for
// the end of its input, and exits with code 3.
const polite = "polite"

func init() {
	roles[polite] = func() {
		terms, end := make(chan os.Signal, 2), make(chan struct{})
		signal.Notify(terms, unix.SIGTERM)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(end)
		}()
		fmt.Println("ready")
		<-terms
		fmt.Println("term")
		select {
		case <-terms:
			fmt.Println("term again")
		case <-end:
			fmt.Println("bye")
		}
		os.Exit(3)
	}
}

func TestSignals(t *testing.T) {
	h := newHost(t)
	p := h.run(shell(`trap 'echo usr1' USR1; trap 'echo rt' 40; echo ready; while [ "$line" != end ]; do read line; done; exit 7`))
	p.requireLine("ready")
	require.Zero(t, p.signal(0))
	require.Zero(t, p.signal(unix.SIGUSR1))
	p.write("\n")
	p.requireLine("usr1")
	require.Zero(t, p.signal(40))
	p.write("\n")
	p.requireLine("rt")
	require.Equal(t, unix.EINVAL, p.refused(65))
	p.write("end\n")
	p.requireEnd(7, -1, wire.ReasonOwn)
	require.Equal(t, unix.ESRCH, p.signal(0))
	require.Equal(t, unix.ESRCH, p.signal(unix.SIGKILL))
}

// refused is the error of a Signal that is not even sent.
func (p *process) refused(number int) unix.Errno {
	p.t.Helper()
	_, err := p.Signal(number)
	var e *core.Error
	require.ErrorAs(p.t, err, &e)
	return e.Errno
}

// Whether the host has ended a program, or it has ended by itself.
func TestReasons(t *testing.T) {
	h := newHost(t)
	const plain = `echo ready; while :; do sleep 1000; done`
	for _, c := range []struct {
		name   string
		script string
		act    func(p *process)
		code   int
		signal unix.Signal
		reason wire.Reason
	}{
		{"killed by the host", plain, func(p *process) { p.signal(unix.SIGKILL) }, -1, unix.SIGKILL, wire.ReasonKilled},
		{"another signal of the host", plain, func(p *process) { p.signal(unix.SIGUSR2) }, -1, unix.SIGUSR2, wire.ReasonKilled},
		{"killed by somebody else", plain, func(p *process) { _ = unix.Kill(-p.pid(), unix.SIGKILL) }, -1, unix.SIGKILL, wire.ReasonOwn},
		{"SIGTERM handled", polite, func(p *process) { p.closeStdin(); p.signal(unix.SIGTERM) }, 3, -1, wire.ReasonKilled},
		{"a signal that ends nothing", `trap : USR1; echo ready; read x; exit 4`, func(p *process) { p.signal(unix.SIGUSR1); p.closeStdin() }, 4, -1, wire.ReasonOwn},
		{"signal 0", `echo ready; read x; exit 5`, func(p *process) { p.signal(0); p.closeStdin() }, 5, -1, wire.ReasonOwn},
		{"stopped", plain, func(p *process) { p.stop(wire.ReasonKilled) }, -1, unix.SIGTERM, wire.ReasonKilled},
		{"stopped gracefully", polite, func(p *process) { p.closeStdin(); p.stop(wire.ReasonKilled) }, 3, -1, wire.ReasonKilled},
		{"for its output", plain, func(p *process) { p.stop(wire.ReasonOutput) }, -1, unix.SIGKILL, wire.ReasonOutput},
		{"for its output, stubborn", stubborn, func(p *process) { p.stop(wire.ReasonOutput) }, -1, unix.SIGKILL, wire.ReasonOutput},
		{"stopped, then for its output", stubborn, func(p *process) { p.stop(wire.ReasonKilled); p.stop(wire.ReasonOutput) }, -1, unix.SIGKILL, wire.ReasonKilled},
		{"for its output, then stopped", stubborn, func(p *process) { p.stop(wire.ReasonOutput); p.stop(wire.ReasonKilled) }, -1, unix.SIGKILL, wire.ReasonOutput},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.on(t)
			o := shell(c.script)
			if c.script == polite {
				o = h.helper(polite)
			}
			p := h.run(with(o, func(o *core.Options) { o.KillTimeout = long }))
			p.requireLine("ready")
			c.act(p)
			p.requireEnd(c.code, int(c.signal), c.reason)
		})
	}
}

// SIGTERM, then the grace, then SIGKILL, for the whole group.
func TestStop(t *testing.T) {
	h := newHost(t)
	t.Run("grace for who uses it", func(t *testing.T) {
		h.on(t)
		p := h.run(with(h.helper(polite), func(o *core.Options) { o.KillTimeout = long }))
		p.requireLine("ready")
		p.stop(wire.ReasonKilled)
		p.requireLine("term")
		p.stop(wire.ReasonKilled) // no second SIGTERM
		require.Zero(t, p.signal(0))
		p.closeStdin()
		p.requireLine("bye")
		p.requireEnd(3, -1, wire.ReasonKilled)
		require.Empty(t, p.text())
	})
	t.Run("the end of the grace", func(t *testing.T) {
		h.on(t)
		p := h.run(with(shell(stubborn), func(o *core.Options) { o.KillTimeout = 20 * time.Millisecond }))
		p.requireLine("ready")
		p.stop(wire.ReasonKilled)
		p.requireEnd(-1, int(unix.SIGKILL), wire.ReasonKilled)
	})
	t.Run("no grace at all", func(t *testing.T) {
		h.on(t)
		p := h.run(with(h.helper(polite), func(o *core.Options) { o.KillTimeout = core.KillNow }))
		p.requireLine("ready")
		p.stop(wire.ReasonKilled)
		p.requireEnd(-1, int(unix.SIGKILL), wire.ReasonKilled)
		require.Empty(t, p.text(), "it has seen no SIGTERM")
	})
	t.Run("one that has been suspended", func(t *testing.T) {
		h.on(t)
		p := h.run(with(command("cat"), func(o *core.Options) { o.KillTimeout = long }))
		require.Zero(t, p.signal(unix.SIGSTOP))
		await(t, "it to be suspended", func() bool { return state(p.pid()) == 'T' })
		p.stop(wire.ReasonKilled)
		p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonKilled)
	})
	t.Run("after the end", func(t *testing.T) {
		h.on(t)
		p := h.run(command("true"))
		p.requireEnd(0, -1, wire.ReasonOwn)
		p.stop(wire.ReasonKilled)
		p.requireEnd(0, -1, wire.ReasonOwn)
	})
	t.Run("all of the group", func(t *testing.T) {
		h.on(t)
		p := h.run(with(shell(`sleep 1000 & echo $!; (trap "" TERM; exec sleep 1000) & echo $!; echo ready; wait`), func(o *core.Options) { o.KillTimeout = long }))
		job, stubborn := watch(t, p.number()), watch(t, p.number())
		p.requireLine("ready")
		p.stop(wire.ReasonKilled)
		p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonKilled)
		requireDead(t, job, stubborn) // the latter not by the grace, which is long
	})
}

func TestTimeout(t *testing.T) {
	h := newHost(t)
	p := h.run(with(command("sleep", "1000"), func(o *core.Options) { o.Timeout, o.KillTimeout = 20*time.Millisecond, long }))
	p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonTimeout)

	p = h.run(with(command("sleep", "1000"), func(o *core.Options) { o.Timeout, o.KillTimeout = 20*time.Millisecond, core.KillNow }))
	p.requireEnd(-1, int(unix.SIGKILL), wire.ReasonTimeout)

	// One whose end comes before: neither its reason nor anything else is changed.
	p = h.run(with(shell("exit 9"), func(o *core.Options) { o.Timeout = long }))
	p.requireEnd(9, -1, wire.ReasonOwn)
	p = h.run(with(command("cat"), func(o *core.Options) { o.Timeout, o.KillTimeout = long, long }))
	p.stop(wire.ReasonKilled)
	p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonKilled)

	// Many at once end in whatever order.
	var all []*process
	for i := range 20 {
		all = append(all, h.spawn(with(command("sleep", "1000"), func(o *core.Options) {
			o.Timeout = time.Duration(1+(i*7)%20) * 5 * time.Millisecond
		})))
	}
	for _, p := range all {
		p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonTimeout)
	}
}

// When the time limit has come first, it stays the reason.
func TestTimeoutThenStop(t *testing.T) {
	h := newHost(t)
	// A limit that expires before the program can say that it is ready shows
	// nothing: then a longer one has to do.
	for limit := 100 * time.Millisecond; ; limit *= 4 {
		require.Less(t, limit, hang)
		p := h.run(with(h.helper(polite), func(o *core.Options) { o.Timeout, o.KillTimeout = limit, long }))
		if p.fill(core.Stdout) == io.EOF {
			p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonTimeout)
			continue
		}
		p.requireLine("ready")
		p.requireLine("term")
		p.stop(wire.ReasonOutput)
		p.requireEnd(-1, int(unix.SIGKILL), wire.ReasonTimeout)
		return
	}
}

// Each signal that is sent arrives once: at the program, and at what it has in
// its group.
func testSignalsExactlyOnce(t *testing.T, h *host) {
	const n = 100
	for _, family := range []string{"alone", "with child"} {
		p := h.run(h.helper("count signals", family))
		p.requireLine("ready")
		for range n {
			require.Zero(t, p.signal(countedSignal))
		}
		require.Zero(t, p.signal(0))
		p.write("how many?\n")
		p.requireLine(fmt.Sprint(n))
		if family != "alone" {
			p.requireLine(fmt.Sprint(n))
		}
		p.closeStdin()
		p.requireEnd(0, -1, wire.ReasonOwn)
	}
}

const countedSignal unix.Signal = 40 // real-time signals are queued, each one

func init() {
	// The runtime's threads have the mask that their process has started with:
	// block the signal, and start again.
	roles["count signals"] = func() {
		runtime.LockOSThread()
		var set unix.Sigset_t
		set.Val[0] = 1 << (countedSignal - 1)
		must(unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil))
		must(unix.Exec("/proc/self/exe", append([]string{"count signals with mask"}, os.Args[1:]...), os.Environ()))
	}
	roles["count signals with mask"] = func() {
		var set unix.Sigset_t
		set.Val[0] = 1 << (countedSignal - 1)
		fd, err := unix.Signalfd(-1, &set, unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
		must(err)
		var child *exec.Cmd
		var ask io.WriteCloser
		var answers *bufio.Reader
		if os.Args[1] == "with child" {
			child = exec.Command("/proc/self/exe")
			child.Args = []string{os.Args[0], "alone"}
			ask, err = child.StdinPipe()
			must(err)
			out, err := child.StdoutPipe()
			must(err)
			answers = bufio.NewReader(out)
			must(child.Start())
			_, err = answers.ReadString('\n')
			must(err)
		}
		fmt.Println("ready")
		for questions := bufio.NewScanner(os.Stdin); questions.Scan(); {
			count := 0
			var info unix.SignalfdSiginfo
			buf := unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info))
			for {
				if _, err := unix.Read(fd, buf); err != nil {
					break
				}
				count++
			}
			fmt.Println(count)
			if child != nil {
				_, err := fmt.Fprintln(ask)
				must(err)
				answer, err := answers.ReadString('\n')
				must(err)
				fmt.Print(answer)
			}
		}
		if child != nil {
			must(ask.Close())
			must(child.Wait())
		}
	}
}

// A program that has left its own group gets its signals nevertheless.
func TestSignalToMovedLeader(t *testing.T) {
	h := newHost(t)
	p := h.run(h.helper("join child's group"))
	child := watch(t, p.number())
	require.Zero(t, p.signal(0))
	require.Zero(t, p.signal(unix.SIGTERM))
	p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonKilled)
	awaitGone(t, child) // it ends by the end of its input, and somebody reaps it
}

func init() {
	roles["join child's group"] = func() {
		child := exec.Command("cat")
		_, err := child.StdinPipe()
		must(err)
		child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(child.Start())
		must(unix.Setpgid(0, child.Process.Pid))
		fmt.Println(child.Process.Pid)
		must(child.Wait())
	}
}

// When the program ends the rest of its group is killed, whatever it ignores,
// and is dead and reaped before the host is told.
func testGroupDiesFirst(t *testing.T, h *host) {
	for name, end := range map[string]func(p *process){
		"its own end": func(p *process) { p.closeStdin() },
		"SIGKILL":     func(p *process) { _ = unix.Kill(p.pid(), unix.SIGKILL) },
		"stop":        func(p *process) { p.stop(wire.ReasonKilled) },
	} {
		t.Run(name, func(t *testing.T) {
			h.on(t)
			p := h.run(with(shell(`
				for i in 1 2 3 4 5; do
					sleep 1000 & echo $!
					(trap "" TERM HUP INT; exec sleep 1000) & echo $!
				done
				(sh -c 'sleep 1000 & echo $!; kill -STOP $$'; :) & # below a suspended one
				read line`), func(o *core.Options) { o.KillTimeout = long }))
			var rest []mortal
			for range 11 {
				rest = append(rest, watch(t, p.number()))
			}
			requireAlive(t, rest...)
			end(p)
			p.wait()
			for _, m := range rest {
				require.True(t, m.gone(), "%s is gone when the end is told", describe(m.pid))
			}
			require.Empty(t, p.text(), "nobody holds the pipe any more")
		})
	}
}

// A job in the background neither keeps a program from having ended nor its
// output from ending.
func TestBackgroundJob(t *testing.T) {
	h := newHost(t)
	for range 20 {
		p := h.run(shell("sleep 1000 & exit 4"))
		p.requireEnd(4, -1, wire.ReasonOwn)
		require.Empty(t, p.text())
	}
}

// A process whose parent is outside the group and never reaps it is dead, too.
func TestGroupMemberThatNobodyReaps(t *testing.T) {
	h := newHost(t)
	p := h.run(shell(`(sleep 1000 & echo $!; exec setsid sleep 1000 >/dev/null) & echo $!; read line; exit 0`))
	pids := map[string]mortal{}
	for range 2 {
		m := watch(t, p.number())
		name := "member"
		if parent := stat(m.pid)[1]; parent == fmt.Sprint(p.pid()) {
			name = "parent"
		}
		pids[name] = m
	}
	parent, member := pids["parent"], pids["member"]
	await(t, "the parent to leave", func() bool {
		session, err := unix.Getsid(parent.pid)
		return err == nil && session == parent.pid
	})
	p.closeStdin()
	p.requireEnd(0, -1, wire.ReasonOwn)
	requireDead(t, member)
	_ = unix.PidfdSendSignal(parent.pidfd, unix.SIGKILL, nil, 0)
	awaitGone(t, parent, member)
}

// What a program leaves behind outside its group becomes the shepherd's child,
// which reaps it.
func TestOrphansAreReaped(t *testing.T) {
	h := newHost(t)
	p := h.run(shell(`for i in 1 2 3 4 5 6 7 8 9 10; do setsid sleep 0.05 >/dev/null & echo $!; done`))
	var orphans []mortal
	for range 10 {
		orphans = append(orphans, watch(t, p.number()))
	}
	p.requireEnd(0, -1, wire.ReasonOwn)
	awaitGone(t, orphans...)
	require.Empty(t, programs(t, h.shepherdPID()))
}

// NR_LINGER: what a program leaves in its group lives until the release.
func TestLinger(t *testing.T) {
	h := newHost(t)
	linger := func(script string, grace time.Duration) (*process, mortal) {
		p := h.run(with(shell(script), func(o *core.Options) { o.Flags, o.KillTimeout = core.Linger, grace }))
		rest := watch(t, p.number())
		p.requireEnd(0, -1, wire.ReasonOwn)
		requireAlive(t, rest)
		return p, rest
	}
	const job = `sleep 1000 & echo $!; exit 0`

	t.Run("stopped by release", func(t *testing.T) {
		h.on(t)
		p, rest := linger(job, long)
		require.Equal(t, unix.ESRCH, p.signal(unix.SIGKILL), "the program has ended")
		requireAlive(t, rest)
		p.release()
		awaitGone(t, rest)
	})
	t.Run("killed after the grace", func(t *testing.T) {
		h.on(t)
		p := h.run(with(shell(`(trap "" TERM; echo $(exec sh -c 'echo $PPID'); while :; do sleep 1000; done) & read x`), func(o *core.Options) {
			o.Flags, o.KillTimeout = core.Linger, 20*time.Millisecond
		}))
		rest := watch(t, p.number())
		p.closeStdin()
		p.wait()
		requireAlive(t, rest)
		p.release()
		awaitGone(t, rest)
	})
	t.Run("killed at once", func(t *testing.T) {
		h.on(t)
		p, rest := linger(job, core.KillNow)
		p.release()
		awaitGone(t, rest)
	})
	t.Run("nothing lingers", func(t *testing.T) {
		h.on(t)
		p := h.run(with(command("true"), func(o *core.Options) { o.Flags, o.KillTimeout = core.Linger, long }))
		p.requireEnd(0, -1, wire.ReasonOwn)
		p.release()
	})
	t.Run("what lingered has ended", func(t *testing.T) {
		h.on(t)
		p := h.run(with(shell(`read x <&3 & echo $!; exit 0`), func(o *core.Options) {
			o.Flags, o.KillTimeout = core.Linger, long
			r, w, err := os.Pipe()
			require.NoError(t, err)
			t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
			o.Descriptors = []core.Descriptor{{FD: int(r.Fd()), Target: 3}}
			o.Stdout.Mode = core.StdioPipe
		}))
		rest := watch(t, p.number())
		p.requireEnd(0, -1, wire.ReasonOwn)
		requireAlive(t, rest)
		require.NoError(t, unix.PidfdSendSignal(rest.pidfd, unix.SIGKILL, nil, 0))
		awaitGone(t, rest)
		p.release()
	})
	t.Run("released before the end", func(t *testing.T) {
		h.on(t)
		p := h.run(with(shell(`sleep 1000 & echo $!; wait`), func(o *core.Options) { o.Flags, o.KillTimeout = core.Linger, long }))
		leader, rest := watch(t, p.pid()), watch(t, p.number())
		p.release()
		awaitGone(t, leader, rest)
	})
	t.Run("stopped before the end", func(t *testing.T) {
		h.on(t)
		// The host asked for the end of all: nothing lingers then.
		p := h.run(with(shell(`(trap "" TERM; exec sleep 1000) & echo $!; echo ready; wait`), func(o *core.Options) {
			o.Flags, o.KillTimeout = core.Linger, 50*time.Millisecond
		}))
		rest := watch(t, p.number())
		p.requireLine("ready")
		p.stop(wire.ReasonKilled)
		exit := p.wait()
		require.Equal(t, wire.ReasonKilled, exit.Reason)
		require.True(t, rest.gone())
	})
	t.Run("the host ends", func(t *testing.T) {
		h.on(t)
		_, rest := linger(job, long)
		h.closeControls()
		awaitGone(t, rest)
	})
}

// A process that has been released is stopped in the background, with its
// grace, even if the host ends right after.
func TestReleaseGivesGrace(t *testing.T) {
	for name, last := range map[string]func(t *testing.T, h *host){
		"the host lives on":             func(*testing.T, *host) {},
		"the control socket ends":       func(_ *testing.T, h *host) { h.closeControls() },
		"the shepherd looks only later": nil,
		"a spawn is on its way":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			p := h.run(with(h.helper(polite), func(o *core.Options) { o.KillTimeout = long }))
			leader := watch(t, p.pid())
			p.requireLine("ready")
			// The streams are the caller's: keep them.
			if last == nil {
				k := h.shepherds[0]
				require.NoError(t, unix.Kill(h.pid(k), unix.SIGSTOP))
				await(t, "the shepherd to be suspended", func() bool { return state(h.pid(k)) == 'T' })
				if name == "a spawn is on its way" {
					h.spawn(command("true"))
				}
				p.Release()
				h.closeControls()
				require.NoError(t, unix.Kill(h.pid(k), unix.SIGCONT))
			} else {
				p.Release()
				last(t, h)
			}
			p.requireLine("term")
			p.closeStdin()
			p.requireLine("bye")
			require.Empty(t, p.text())
			awaitGone(t, leader)
		})
	}
}

// The grace of what has been released ends, also when the host has ended.
func TestReleaseKillsAfterGrace(t *testing.T) {
	h := newHost(t)
	p := h.run(with(shell(stubborn), func(o *core.Options) { o.KillTimeout = 50 * time.Millisecond }))
	leader := watch(t, p.pid())
	p.requireLine("ready")
	p.Release()
	h.closeControls()
	awaitGone(t, leader)
}

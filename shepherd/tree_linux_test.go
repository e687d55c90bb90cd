// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// shapes are ways for a process to get away from the program that has made it.
// Each script, or helper program, prints the process ids of what has got away,
// then "ready", and ends with its input. All of that must be dead when the
// program's end is told.
var shapes = []struct {
	name   string
	script string
}{
	{"a session of its own", `setsid sleep 1000 & echo $!; echo ready; read x; exit 0`},
	{"an orphan with a session", `sh -c 'setsid sleep 1000 >/dev/null & echo $!'; echo ready; read x; exit 0`},
	{"without environment and descriptors", `env -i setsid sleep 1000 <&- >&- 2>&- & echo $!; echo ready; read x; exit 0`},
	{"a suspended one", `setsid sh -c 'kill -STOP $$' & echo $!; echo ready; read x; exit 0`},
	{"one that ignores everything", `(trap "" HUP INT QUIT TERM USR1 USR2; exec setsid sleep 1000) & echo $!; echo ready; read x; exit 0`},
	{"a chain of sessions", `setsid sh -c 'setsid sh -c "setsid sleep 1000 & echo \$!; echo \$\$; echo ready; wait" & echo $!; wait' & read x; exit 0`},
	{"many", `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do setsid sleep 1000 & echo $!; done; echo ready; read x; exit 0`},
	{"a sibling of the program", "clone parent"},
}

func init() {
	// Its child is the shepherd's child from the beginning, and no orphan.
	roles["clone parent"] = func() {
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{
			Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_PARENT},
		})
		must(err)
		fmt.Println(pid)
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

// runShape runs a program, and returns it with what has got away from it.
func (h *host) runShape(script string, change func(o *core.Options)) (*process, []mortal) {
	h.t.Helper()
	o := shell(script)
	if roles[script] != nil {
		o = h.helper(script)
	}
	p := h.run(with(o, change))
	var away []mortal
	for {
		line := p.line()
		if line == "ready" {
			break
		}
		pid, err := strconv.Atoi(line)
		require.NoError(h.t, err)
		away = append(away, watch(h.t, pid))
	}
	require.NotEmpty(h.t, away)
	return p, away
}

// However a program ends, all that has got away from it is dead before that is
// told. What has got away from others lives.
func TestTreeDies(t *testing.T) {
	ends := []struct {
		name string
		act  func(p *process)
	}{
		{"its own end", func(p *process) { p.closeStdin() }},
		{"a kill", func(p *process) { _ = unix.Kill(p.pid(), unix.SIGKILL) }},
		{"a stop", func(p *process) { p.stop(wire.ReasonKilled) }},
		{"a stop for its output", func(p *process) { p.stop(wire.ReasonOutput) }},
	}
	h := newHostWith(t, "shepherd")
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			h.on(t)
			sibling, siblings := h.runShape(shape.script, func(*core.Options) {})
			for _, end := range ends {
				p, away := h.runShape(shape.script, func(o *core.Options) { o.KillTimeout = long })
				requireAlive(t, away...)
				end.act(p)
				p.wait()
				for _, m := range away {
					require.True(t, m.dead(), "%s after %s", describe(m.pid), end.name)
				}
			}
			requireAlive(t, siblings...)
			sibling.closeStdin()
			sibling.wait()
			requireDead(t, siblings...)
		})
	}
}

func init() {
	// As su(1) does, its child resets the limit that is the mark.
	roles["unmarked child"] = func() {
		limit := unix.Rlimit{Cur: 7, Max: unix.RLIM_INFINITY}
		must(unix.Setrlimit(unix.RLIMIT_LOCKS, &limit))
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
		must(err)
		fmt.Println(pid)
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

// What has lost its mark dies with the last program, of whatever kind that is.
func TestUnmarkedDiesWithLastProgram(t *testing.T) {
	for name, flags := range map[string]core.Flags{"plain": 0, "with a PID namespace": core.PIDNamespace} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			last := h.runCat(func(o *core.Options) { o.Flags |= flags })
			p, away := h.runShape("unmarked child", func(*core.Options) {})
			p.closeStdin()
			p.wait()
			requireAlive(t, away...)
			last.closeStdin()
			last.wait()
			requireDead(t, away...)
		})
	}
}

// The same when the last one could not be started after all.
func TestUnmarkedDiesWithFailure(t *testing.T) {
	h := newHost(t)
	b := newBlockade(t, "no program\n")
	p, away := h.runShape("unmarked child", func(*core.Options) {})
	last := h.spawn(command(b.path))
	b.await()
	p.closeStdin()
	p.wait()
	requireAlive(t, away...)
	b.lift()
	last.requireFailure(unix.ENOEXEC, "execve "+b.path+": exec format error")
	awaitDead(t, away...)
}

// A tree dies when the process is released, and when the host ends.
func TestTreeDiesWithRelease(t *testing.T) {
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			h := newHostWith(t, "shepherd")
			p, away := h.runShape(shape.script, func(*core.Options) {})
			_, siblings := h.runShape(shape.script, func(*core.Options) {})
			p.release()
			awaitGone(t, away...)
			requireAlive(t, siblings...)
			h.closeControls()
			awaitGone(t, siblings...)
		})
	}
}

// Being stopped is SIGTERM to the whole tree, not only to the program's group,
// and grace for all of it.
func TestStopReachesTree(t *testing.T) {
	h := newHostWith(t, "shepherd")
	sibling, _ := h.runShape(shapes[0].script, func(*core.Options) {})
	for name, act := range map[string]func(p *process){
		"stop":    func(p *process) { p.stop(wire.ReasonKilled) },
		"release": func(p *process) { p.Release() },
	} {
		t.Run(name, func(t *testing.T) {
			h.on(t)
			p := h.run(with(h.helper("polite family"), func(o *core.Options) { o.KillTimeout = long }))
			leader := watch(t, p.pid())
			p.requireLine("ready")
			act(p)
			p.requireLine("term")
			requireAlive(t, leader)
			p.closeStdin()
			p.requireLine("bye")
			awaitGone(t, leader)
			require.Empty(t, p.text())
		})
	}
	require.Zero(t, sibling.signal(0))
}

func init() {
	// It outlives SIGTERM, and ends with its child, which has a session of its
	// own, and is polite.
	roles["polite family"] = func() {
		signal.Notify(make(chan os.Signal, 1), unix.SIGTERM)
		child := exec.Command("/proc/self/exe")
		child.Args = []string{polite}
		child.Stdin, child.Stdout = os.Stdin, os.Stdout
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		_ = child.Run()
	}
}

// A shepherd with as many programs as it has descriptors for still has some to
// look for what they leave behind.
func TestTreesOfFullShepherd(t *testing.T) {
	h := newHost(t)
	h.run(command("true")).requireEnd(0, -1, wire.ReasonOwn)
	pid := h.shepherdPID()
	var saved unix.Rlimit
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &saved))
	limit := uint64(slices.Max(sortedKeys(files(t, pid)))) + 40
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: saved.Max}, nil))
	var all []*process
	var away []mortal
	for {
		p := h.spawn(shell(shapes[0].script))
		await(t, "its start, or its failure", func() bool { return p.Poll().Phase != core.Starting })
		if p.Poll().Phase == core.Failed {
			p.requireFailure(unix.EMFILE, "the shepherd has no descriptors left")
			break
		}
		away = append(away, watch(t, p.number()))
		p.requireLine("ready")
		all = append(all, p)
		require.Less(t, len(all), int(limit))
	}
	require.NotEmpty(t, all)
	for _, p := range all {
		p.closeStdin()
	}
	for _, p := range all {
		p.requireEnd(0, -1, wire.ReasonOwn)
	}
	requireDead(t, away...)
	h.run(command("true")).requireEnd(0, -1, wire.ReasonOwn)
}

// A shepherd that has no descriptor left can't look for what has got away. It
// does not say that it is gone, then, and kills it as soon as it can look.
func TestTreeWithoutDescriptors(t *testing.T) {
	h := newHostWith(t, "shepherd")
	p, away := h.runShape(shapes[0].script, func(*core.Options) {})
	other, others := h.runShape(shapes[0].script, func(o *core.Options) { o.Flags = core.Linger })
	pid := h.shepherdPID()
	var saved unix.Rlimit
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &saved))
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4, Max: saved.Max}, nil))
	leader := watch(t, p.pid())
	p.closeStdin()
	awaitGone(t, leader)
	if p.Poll().Phase == core.Ended {
		requireDead(t, away...)
	}
	other.closeStdin()
	other.wait()
	requireAlive(t, others...)
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &saved, nil))
	p.requireEnd(0, -1, wire.ReasonOwn)
	requireDead(t, away...)
	other.release()
	awaitGone(t, others...)
}

// A shepherd of its own runs one program, and ends with it. Another's death is
// nothing to it.
func TestOwnShepherd(t *testing.T) {
	h := newHostWith(t, "shepherd")
	shared := h.runCat(func(*core.Options) {})
	own := func(o *core.Options) { o.Flags |= core.OwnShepherd }
	first, second := h.runCat(own), h.runCat(own)
	require.Len(t, h.shepherds, 3)

	h.shepherds[1].killed = true
	leader := watch(t, first.pid())
	require.NoError(t, unix.Kill(h.pid(h.shepherds[1]), unix.SIGKILL))
	awaitDead(t, leader)
	for _, p := range []*process{shared, second} {
		p.write("still there\n")
		p.requireLine("still there")
	}
	require.Equal(t, core.Lost, func() core.Phase {
		for first.Poll().Phase == core.Running {
			require.True(t, pollFor(first.Socket(), unix.POLLIN, hang))
		}
		return first.Poll().Phase
	}())

	second.closeStdin()
	second.requireEnd(0, -1, wire.ReasonOwn)
	h.awaitEnd(h.shepherds[2])
	h.run(shell("exit 4")).requireEnd(4, -1, wire.ReasonOwn)
	require.Len(t, h.shepherds, 3, "the shared one is still there")

	h.spawn(with(command("/nowhere"), own)).requireFailure(unix.ENOENT, "execve /nowhere: no such file or directory")
	h.awaitEnd(h.shepherds[3])
	p := h.run(with(shell(stubborn), func(o *core.Options) { own(o); o.KillTimeout = core.KillNow }))
	gone := watch(t, p.pid())
	p.release()
	awaitGone(t, gone)
	h.awaitEnd(h.shepherds[4])
}

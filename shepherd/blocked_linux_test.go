// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// blockade is an executable file whose execve(2) hangs, as one on a dead file
// server does: this process holds a write lease on it and does not give it up.
type blockade struct {
	t    *testing.T
	path string
	fd   int
}

func newBlockade(t *testing.T, script string) *blockade {
	t.Helper()
	b := &blockade{t: t, path: filepath.Join(t.TempDir(), "prog")}
	require.NoError(t, os.WriteFile(b.path, []byte(script), 0o755))
	var err error
	b.fd, err = unix.Open(b.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(b.lift)
	if _, err := unix.FcntlInt(uintptr(b.fd), unix.F_SETLEASE, unix.F_WRLCK); err == unix.EINVAL {
		t.Skip("this file system has no leases")
	} else {
		require.NoError(t, err)
	}
	return b
}

// await waits until somebody hangs.
func (b *blockade) await() {
	b.t.Helper()
	await(b.t, "an execve to hang", func() bool {
		lease, err := unix.FcntlInt(uintptr(b.fd), unix.F_GETLEASE, 0)
		require.NoError(b.t, err)
		return lease != unix.F_WRLCK // it is asked to become less
	})
}

// lift lets the execve go on.
func (b *blockade) lift() {
	if b.fd >= 0 {
		_, _ = unix.FcntlInt(uintptr(b.fd), unix.F_SETLEASE, unix.F_UNLCK)
		_ = unix.Close(b.fd)
		b.fd = -1
	}
}

// newBlockedHost is newHost, in which n programs hang in execve(2). Whoever was
// there before and whoever comes later must not notice.
func newBlockedHost(t *testing.T, n int) (*host, []*blockade, []*process) {
	t.Helper()
	h := newHost(t)
	var blockades []*blockade
	var hung []*process
	for i := range n {
		b := newBlockade(t, fmt.Sprintf("#!/bin/sh\necho went on; read x; exit %d\n", i))
		p := h.spawn(with(command(b.path), func(o *core.Options) { o.KillTimeout = long }))
		b.await()
		require.Equal(t, core.Starting, p.Poll().Phase)
		blockades, hung = append(blockades, b), append(hung, p)
	}
	return h, blockades, hung
}

// Up to 6 programs that hang leave room for others to be started, 7 for those
// that run to be watched and killed.
func TestBlockedExec(t *testing.T) {
	for _, n := range []int{1, 2, 6, 7} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			h := newHost(t)
			killed := h.run(command("sleep", "1000"))
			ended := h.runCat(func(*core.Options) {})
			group := h.run(shell("sleep 1000 & echo $!; read x"))
			member := watch(t, group.number())
			stopped := h.run(with(shell(stubborn), func(o *core.Options) { o.KillTimeout = 10 * time.Millisecond }))
			stopped.requireLine("ready")
			released := h.run(with(command("sleep", "1000"), func(o *core.Options) { o.KillTimeout = long }))
			gone := watch(t, released.pid())
			var blockades []*blockade
			var hung []*process
			for i := range n {
				b := newBlockade(t, fmt.Sprintf("#!/bin/sh\necho went on\nread x\nexit %d\n", i))
				hung = append(hung, h.spawn(with(command(b.path), func(o *core.Options) { o.KillTimeout = long })))
				b.await()
				blockades = append(blockades, b)
			}

			require.Zero(t, killed.signal(unix.SIGKILL))
			killed.requireEnd(-1, int(unix.SIGKILL), wire.ReasonKilled)
			ended.closeStdin()
			ended.requireEnd(0, -1, wire.ReasonOwn)
			group.closeStdin()
			group.requireEnd(1, -1, wire.ReasonOwn) // read's
			require.True(t, member.gone())
			stopped.stop(wire.ReasonKilled)
			stopped.requireEnd(-1, int(unix.SIGKILL), wire.ReasonKilled)
			released.release()
			awaitGone(t, gone)

			if n < maxWorkers-1 {
				h.run(shell("exit 3")).requireEnd(3, -1, wire.ReasonOwn)
				h.spawn(command("/nowhere")).requireFailure(unix.ENOENT, "execve /nowhere: no such file or directory")
				timeout := h.run(with(command("sleep", "1000"), func(o *core.Options) { o.Timeout = time.Millisecond }))
				timeout.requireEnd(-1, int(unix.SIGTERM), wire.ReasonTimeout)
			} else {
				queued := h.spawn(shell("exit 3"))
				for _, p := range append(hung, queued) {
					require.Equal(t, core.Starting, p.Poll().Phase)
				}
				blockades[n/2].lift()
				queued.requireEnd(3, -1, wire.ReasonOwn)
			}
			for i, p := range hung {
				if blockades[i].fd >= 0 {
					require.Equal(t, core.Starting, p.Poll().Phase)
				}
				blockades[i].lift()
				p.requireLine("went on")
				p.write("\n")
				p.requireEnd(i, -1, wire.ReasonOwn)
			}
		})
	}
}

// What is asked for while an execve hangs is done when it goes on.
func TestBlockedExecIsStopped(t *testing.T) {
	h, blockades, hung := newBlockedHost(t, 3)
	hung[0].stop(wire.ReasonOutput)
	sequence, err := hung[1].Signal(int(unix.SIGUSR1))
	require.NoError(t, err)
	require.NotEqual(t, sequence, hung[1].Poll().Answered)
	hung[2].release()
	for _, b := range blockades {
		b.lift()
	}
	hung[0].requireEnd(-1, int(unix.SIGKILL), wire.ReasonOutput)
	hung[1].requireEnd(-1, int(unix.SIGUSR1), wire.ReasonKilled)
	await(t, "the released one to be gone", func() bool { return len(programs(t, h.shepherdPID())) == 0 })
}

// When the host ends while an execve hangs, the others die at once, and the
// hanging one as soon as it goes on.
func TestHostEndsDuringBlockedExec(t *testing.T) {
	h, blockades, hung := newBlockedHost(t, 2)
	sibling := watch(t, h.run(command("sleep", "1000")).pid())
	h.closeControls()
	awaitGone(t, sibling)
	for _, b := range blockades {
		b.lift()
	}
	h.awaitEnd(h.shepherds[0])
	for _, p := range hung {
		require.NotContains(t, p.text(), "went on\nwent on")
	}
}

// An execve that hangs and then fails is an error as any other.
func TestBlockedExecFails(t *testing.T) {
	h := newHost(t)
	b := newBlockade(t, "garbage")
	p := h.spawn(command(b.path))
	b.await()
	h.run(command("true")).requireEnd(0, -1, wire.ReasonOwn)
	b.lift()
	p.requireFailure(unix.ENOEXEC, "execve "+b.path+": exec format error")
}

// Killed from outside, one that hangs is neither a success nor a puzzle.
func TestBlockedExecIsKilled(t *testing.T) {
	h := newHost(t)
	b := newBlockade(t, "#!/bin/sh\n")
	p := h.spawn(command(b.path))
	b.await()
	var hung int
	await(t, "its process", func() bool {
		for _, pid := range programs(t, h.shepherdPID()) {
			hung = pid
		}
		return hung != 0
	})
	require.NoError(t, unix.Kill(hung, unix.SIGKILL))
	p.requireEnd(-1, int(unix.SIGKILL), wire.ReasonOwn)
	h.run(command("true")).requireEnd(0, -1, wire.ReasonOwn)
}

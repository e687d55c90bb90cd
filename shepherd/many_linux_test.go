// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// Hundreds of programs at once, each with its own input, output and end.
func testMany(t *testing.T, h *host) {
	const n = 200
	var all []*process
	for i := range n {
		all = append(all, h.spawn(shell("read line; echo $line; exit $1", fmt.Sprint(i%256))))
	}
	for i, p := range all {
		p.write(fmt.Sprintln("input", i))
	}
	for i, p := range all {
		p.requireLine(fmt.Sprint("input ", i))
		p.requireEnd(i%256, -1, wire.ReasonOwn)
		p.release()
	}
}

// Hundreds that are killed at once, while others end by themselves.
func TestKillMany(t *testing.T) {
	h := newHost(t)
	const n = 300
	var all []*process
	for i := range n {
		o := command("sleep", "1000")
		if i%3 == 0 {
			o = command("true")
		}
		all = append(all, h.spawn(with(o, func(o *core.Options) {
			o.KillTimeout, o.Stdin.Mode, o.Stdout.Mode = long, core.StdioNull, core.StdioNull
		})))
	}
	for i, p := range all {
		if i%3 != 0 {
			p.stop(wire.ReasonKilled)
		}
	}
	for i, p := range all {
		if i%3 == 0 {
			p.requireEnd(0, -1, wire.ReasonOwn)
		} else {
			p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonKilled)
		}
		p.release()
	}
}

// A kill that races with the end: it is one or the other, and nobody else is
// hit.
func TestKillRacesWithEnd(t *testing.T) {
	h := newHost(t)
	bystander := h.runCat(func(*core.Options) {})
	for i := range 150 {
		p := h.spawn(command("true"))
		for range i % 7 {
			_ = p.Poll()
		}
		errno := p.signal(unix.SIGKILL)
		exit := p.wait()
		switch exit.Signal {
		case -1:
			require.EqualValues(t, 0, exit.Code)
			// A zombie takes a signal without an error.
			require.Contains(t, []unix.Errno{0, unix.ESRCH}, errno)
		default:
			require.EqualValues(t, unix.SIGKILL, exit.Signal)
			require.Equal(t, wire.ReasonKilled, exit.Reason)
			require.Contains(t, []unix.Errno{0, unix.ESRCH}, errno, "the end may be seen before the answer")
		}
		require.Equal(t, unix.ESRCH, p.signal(0))
		p.release()
	}
	bystander.write("still there\n")
	bystander.requireLine("still there")
}

// Everything at once, from several goroutines, on one Runner.
func TestStress(t *testing.T) {
	h := newHostWith(t, "shepherd")
	garbage := filepath.Join(t.TempDir(), "garbage")
	require.NoError(t, os.WriteFile(garbage, []byte("garbage"), 0o755))
	// The first one starts the shepherd, as the C interface sees to.
	h.run(command("true")).requireEnd(0, -1, wire.ReasonOwn)
	var users sync.WaitGroup
	for user := range uint64(4) {
		users.Go(func() {
			random := rand.New(rand.NewPCG(user, 0))
			for range 60 {
				switch random.IntN(8) {
				case 0:
					h.spawn(command(garbage)).requireFailure(unix.ENOEXEC, "execve "+garbage+": exec format error")
				case 1:
					h.spawn(command("/nowhere")).requireFailure(unix.ENOENT, "execve /nowhere: no such file or directory")
				case 2:
					h.spawn(shell("sleep 1000 & sleep 1000 & exit 3")).requireEnd(3, -1, wire.ReasonOwn)
				case 3:
					p := h.run(with(command("sleep", "1000"), func(o *core.Options) { o.Timeout = time.Millisecond }))
					p.requireEnd(-1, int(unix.SIGTERM), wire.ReasonTimeout)
				case 4:
					p := h.spawn(with(shell(stubborn), func(o *core.Options) { o.KillTimeout = time.Millisecond }))
					p.release()
				case 5:
					p := h.run(with(shell("sleep 1000 & exit 0"), func(o *core.Options) { o.Flags = core.Linger }))
					p.requireEnd(0, -1, wire.ReasonOwn)
					p.release()
				case 6:
					p := h.spawn(command("cat"))
					p.closeEnds() // as if the host had died
				case 7:
					p := h.run(command("cat"))
					text := fmt.Sprintln("text", random.Uint64())
					p.write(text)
					p.closeStdin()
					if got := p.text(); got != text {
						require.Equal(t, text, got)
					}
					p.requireEnd(0, -1, wire.ReasonOwn)
					p.release()
				}
			}
		})
	}
	users.Wait()
	require.Len(t, h.shepherds, 1)
}

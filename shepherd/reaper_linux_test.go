// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// What programs leave to the shepherd while they run is reaped, by whichever way
// it came, also when nothing else happens.
func TestZombiesOfRunningPrograms(t *testing.T) {
	h := newHost(t)
	sleeping := h.runCat(func(*core.Options) {})
	for _, kind := range []string{"leave orphans", "make siblings"} {
		t.Run(kind, func(t *testing.T) {
			h.on(t)
			p := h.run(h.helper(kind))
			p.requireLine("done")
			await(t, "the zombies to be reaped", func() bool { return len(programs(t, h.shepherdPID())) == 2 })
			p.closeStdin()
			p.requireEnd(0, -1, wire.ReasonOwn)
			require.Len(t, programs(t, h.shepherdPID()), 1)
		})
	}
	h.on(t)
	sleeping.closeStdin()
	sleeping.requireEnd(0, -1, wire.ReasonOwn)
}

// The anchor is replaced when somebody kills it, and orphans go on being reaped.
func TestAnchorKilled(t *testing.T) {
	h := newHost(t)
	p := h.run(shell("while read -r line; do (sleep 0 & echo ok); done"))
	var anchors []int
	await(t, "the anchor", func() bool {
		anchors = anchorsOf(t, h.shepherdPID())
		return len(anchors) == 1
	})
	for range 10 {
		require.NoError(t, unix.Kill(anchors[0], unix.SIGKILL))
		await(t, "another anchor", func() bool {
			now := anchorsOf(t, h.shepherdPID())
			if len(now) != 1 || now[0] == anchors[0] {
				return false
			}
			anchors = now
			return true
		})
		p.write("\n")
		p.requireLine("ok")
		await(t, "the orphan to be reaped", func() bool { return len(programs(t, h.shepherdPID())) == 1 })
	}
	p.closeStdin()
	p.requireEnd(0, -1, wire.ReasonOwn)
	require.Len(t, h.shepherds, 1)
}

func anchorsOf(t tester, shepherd int) []int {
	t.Helper()
	return slices.DeleteFunc(children(t, shepherd), func(pid int) bool { return !isAnchor(pid) })
}

func init() {
	fork := func(flags uintptr) {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && pid == 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if errno != 0 {
			must(errno)
		}
	}
	waitForInput := func() {
		fmt.Println("done")
		_, _ = os.Stdin.Read(make([]byte, 1))
	}
	roles["make siblings"] = func() {
		for range 20 {
			fork(unix.CLONE_PARENT)
		}
		waitForInput()
	}
	roles["leave orphans"] = func() {
		for range 20 {
			// A child that has one of its own, which it does not wait for.
			pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
			if errno == 0 && pid == 0 {
				_, _, _ = unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
				_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			if errno != 0 {
				must(errno)
			}
			_, err := unix.Wait4(int(pid), nil, 0, nil)
			must(err)
		}
		waitForInput()
	}
}

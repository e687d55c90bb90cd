// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// testGroup returns a cgroup that this test may use, which is not there yet,
// and its directory.
func testGroup(t *testing.T) (group, dir string) {
	t.Helper()
	mount, err := cgroupMount()
	if err != nil {
		t.Skipf("no cgroups: %v", err)
	}
	if unix.Access(mount, unix.W_OK) != nil {
		t.Skipf("%s is not writable", mount)
	}
	group = fmt.Sprintf("netrunner-test-%d", os.Getpid())
	dir = filepath.Join(mount, group)
	t.Cleanup(func() { require.NoDirExists(t, dir, "at the test's end") })
	return group, dir
}

// Whichever way a program gets into its group, and out of this world: no fork
// of it is outside, and nothing is left.
func TestCgroups(t *testing.T) {
	for _, role := range []string{"shepherd", "shepherd without clone3", "shepherd refused clone3", "shepherd without cgroup.kill"} {
		t.Run(role, func(t *testing.T) {
			group, dir := testGroup(t)
			h := newHostWith(t, role)
			base := func(o *core.Options) { o.CgroupBase = group }
			path := func(o *core.Options) { o.CgroupPath = group }

			for range 10 {
				p := h.run(with(shell("tail -n 1 /proc/self/cgroup; (setsid tail -n 1 /proc/self/cgroup); exit 3"), base))
				place := p.Poll().Cgroup
				require.True(t, strings.HasPrefix(place, dir+"/"), place)
				require.Equal(t, strings.Repeat("0::"+strings.TrimPrefix(place, filepath.Dir(dir))+"\n", 2), p.text())
				p.requireEnd(3, -1, wire.ReasonOwn)
				require.NoDirExists(t, dir)
			}

			// All that is in there is killed, frozen or not, whosever it is.
			for _, freeze := range []string{"0", "1"} {
				p := h.run(with(shell("setsid sleep 1000 & setsid sleep 1000 & echo ready; read x; exit 0"), path))
				p.requireLine("ready")
				stranger := h.run(with(command("sleep", "1000"), path))
				require.NoError(t, p.CgroupSet("cgroup.freeze", freeze))
				await(t, "the group to be as it was told", func() bool {
					text, err := p.CgroupGet("cgroup.events")
					return err == nil && strings.Contains(text, "frozen "+freeze)
				})
				require.Zero(t, p.signal(unix.SIGKILL))
				p.requireEnd(-1, int(unix.SIGKILL), wire.ReasonKilled)
				stranger.requireEnd(-1, int(unix.SIGKILL), wire.ReasonOwn)
				require.NoDirExists(t, dir)
			}

			// What can't be executed leaves no group.
			h.spawn(with(command("/nowhere"), base)).requireFailure(unix.ENOENT, "execve /nowhere: no such file or directory")
			require.NoDirExists(t, dir)
		})
	}
}

// What lingers in a group is killed twice, by a stop and a release: the group is
// removed nevertheless, when the last of it has died.
func TestCgroupKilledTwice(t *testing.T) {
	group, dir := testGroup(t)
	h := newHost(t)
	for range 5 {
		p := h.run(with(shell("for i in $(seq 200); do setsid sleep 1000 </dev/null >/dev/null & done; echo ready"),
			func(o *core.Options) { o.CgroupBase, o.Flags, o.KillTimeout = group, core.Linger, core.KillNow }))
		p.requireLine("ready")
		p.requireEnd(0, -1, wire.ReasonOwn)
		p.stop(wire.ReasonKilled)
		p.release()
		await(t, "the group to be removed", func() bool { return unix.Access(dir, unix.F_OK) == unix.ENOENT })
	}
	h.run(shell("exit 3")).requireEnd(3, -1, wire.ReasonOwn)
	require.Len(t, h.shepherds, 1)
}

// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A host that has changed any of what programs inherit is somebody else.
func TestIdentityEqual(t *testing.T) {
	whole := identity{uids: [3]int{1, 2, 3}, gids: [3]int{4, 5, 6}, groups: []int{7, 8}, nice: 9}
	for i := range whole.rlimits {
		whole.rlimits[i] = unix.Rlimit{Cur: uint64(i), Max: uint64(100 + i)}
	}
	clone := func() identity {
		c := whole
		c.groups = slices.Clone(whole.groups)
		return c
	}
	same := clone()
	require.True(t, whole.equal(&same))

	changes := map[string]func(id *identity){
		"one group less": func(id *identity) { id.groups = id.groups[:1] },
		"no group":       func(id *identity) { id.groups = nil },
		"another group":  func(id *identity) { id.groups[1]++ },
		"niceness":       func(id *identity) { id.nice++ },
	}
	for i, name := range []string{"real", "effective", "saved"} {
		changes[name+" user"] = func(id *identity) { id.uids[i]++ }
		changes[name+" group"] = func(id *identity) { id.gids[i]++ }
	}
	for i := range whole.rlimits {
		changes["a soft limit"] = func(id *identity) { id.rlimits[i].Cur++ }
		changes["a hard limit"] = func(id *identity) { id.rlimits[i].Max++ }
		for name, change := range changes {
			other := clone()
			change(&other)
			require.False(t, whole.equal(&other), "%s (limit %d)", name, i)
			require.False(t, other.equal(&whole), "%s (limit %d)", name, i)
		}
	}
}

func TestCurrentIdentity(t *testing.T) {
	first, second := currentIdentity(), currentIdentity()
	require.True(t, first.equal(&second))
	require.Equal(t, unix.Getuid(), first.uids[0])
	require.Equal(t, unix.Getegid(), first.gids[1])

	withLimit(t, unix.RLIMIT_CORE, func(l *unix.Rlimit) { l.Cur = otherLimit(l) })
	changed := currentIdentity()
	require.False(t, first.equal(&changed), "a resource limit has changed")
}

// The soft limit of descriptors goes with each program: hosts change it often,
// and need no new shepherd for that.
func TestIdentityIgnoresSoftFileLimit(t *testing.T) {
	first := currentIdentity()
	withLimit(t, unix.RLIMIT_NOFILE, func(l *unix.Rlimit) { l.Cur-- })
	second := currentIdentity()
	require.True(t, first.equal(&second))

	limit, ok := hostNoFile()
	require.True(t, ok)
	var now unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &now))
	require.EqualValues(t, unix.RLIMIT_NOFILE, limit.Resource)
	require.Equal(t, now, unix.Rlimit{Cur: limit.Soft, Max: limit.Hard})
}

// withLimit changes a resource limit of this process for the rest of the test.
func withLimit(t *testing.T, resource int, change func(l *unix.Rlimit)) {
	t.Helper()
	var saved unix.Rlimit
	require.NoError(t, unix.Prlimit(0, resource, nil, &saved))
	changed := saved
	change(&changed)
	require.NoError(t, unix.Prlimit(0, resource, &changed, nil))
	t.Cleanup(func() { require.NoError(t, unix.Prlimit(0, resource, &saved, nil)) })
}

// otherLimit is a soft limit that l does not have and may have.
func otherLimit(l *unix.Rlimit) uint64 {
	if l.Cur > 0 {
		return 0
	}
	return min(l.Max, 1)
}

func TestHostPIDFD(t *testing.T) {
	checkDescriptors(t)
	fd := hostPIDFD()
	require.Greater(t, fd, 2)
	require.NoError(t, unix.PidfdSendSignal(fd, 0, nil, 0), "it stands for a process that lives")
	require.NoError(t, unix.Close(fd))
}

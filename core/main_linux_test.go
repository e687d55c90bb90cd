// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// hang is how long something may take before a test gives up. It is for
// machines in trouble and no measure of anything.
const hang = time.Minute

// The test binary is also its own helper program: which one is said by argv[0].
var helpers = map[string]func(){}

func TestMain(m *testing.M) {
	if helper := helpers[os.Args[0]]; helper != nil {
		helper()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helperCommand is a command that runs one of the helpers.
func helperCommand(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self)
	c.Args = append([]string{name}, args...)
	c.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // not a second for each
	return c
}

// descriptors tells what is open, by number.
func descriptors(t require.TestingT) map[int]string {
	if h, ok := t.(interface{ Helper() }); ok {
		h.Helper()
	}
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	open := make(map[int]string)
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // else ReadDir's own
			open[fd] = target
		}
	}
	return open
}

// checkDescriptors fails the test if anything that is open at its end was not
// open at its beginning, or the other way round.
func checkDescriptors(t *testing.T) {
	t.Helper()
	before := descriptors(t)
	t.Cleanup(func() { require.Equal(t, before, descriptors(t), "descriptors at the test's end") })
}

// withDescriptorRoom calls f while no more than n descriptors can be opened.
func withDescriptorRoom(t *testing.T, n int, f func()) {
	t.Helper()
	var saved unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &saved))
	limit := func(cur int) error {
		return unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(cur), Max: saved.Max}, nil)
	}
	defer func() { require.NoError(t, unix.Prlimit(0, unix.RLIMIT_NOFILE, &saved, nil)) }()
	// Numbers are given from the lowest: first fill the gaps.
	full := 0
	for fd := range descriptors(t) {
		full = max(full, fd+1)
	}
	require.NoError(t, limit(full))
	var fill []int
	defer func() {
		for _, fd := range fill {
			_ = unix.Close(fd)
		}
	}()
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err == unix.EMFILE {
			break
		}
		require.NoError(t, err)
		fill = append(fill, fd)
	}
	require.NoError(t, limit(full+n))
	f()
}

// report is a require.TestingT for helper programs.
type report struct{ to *os.File }

func (r report) Errorf(format string, args ...any) { fmt.Fprintf(r.to, format+"\n", args...) }
func (r report) FailNow()                          { os.Exit(1) }

// SPDX-License-Identifier: Apache-2.0

package core

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

func unknownUsage() wire.Usage {
	return wire.Usage{User: math.MaxUint64, System: math.MaxUint64, MaxRSS: math.MaxUint64, MinorFaults: math.MaxUint64,
		MajorFaults: math.MaxUint64, BlocksIn: math.MaxUint64, BlocksOut: math.MaxUint64,
		VoluntarySwitches: math.MaxUint64, InvoluntarySwitches: math.MaxUint64}
}

// What /proc tells lies between what getrusage(2) tells before and after.
func TestReadUsage(t *testing.T) {
	busy := make([]byte, 16<<20)
	before := used(t)
	for before.Utime.Nano() < 5*int64(clockTick) { // so that it is not 0 ticks
		for i := range busy {
			busy[i]++
		}
		before = used(t)
	}
	u := unknownUsage()
	readUsage(os.Getpid(), &u)
	after := used(t)

	// The unit is a tick, and the kernel's split into user and system is not
	// exact: compare the sums.
	sum := func(r unix.Rusage) uint64 { return uint64(r.Utime.Nano() + r.Stime.Nano()) }
	require.GreaterOrEqual(t, u.User+u.System+4*clockTick, sum(before))
	require.LessOrEqual(t, u.User+u.System, sum(after)+4*clockTick)
	require.NotZero(t, u.User)
	require.GreaterOrEqual(t, u.MinorFaults, uint64(before.Minflt))
	require.LessOrEqual(t, u.MinorFaults, uint64(after.Minflt))
	require.GreaterOrEqual(t, u.MajorFaults, uint64(before.Majflt))
	require.LessOrEqual(t, u.MajorFaults, uint64(after.Majflt))
	require.GreaterOrEqual(t, u.MaxRSS, uint64(len(busy)))
	require.Less(t, u.MaxRSS, uint64(1<<40))

	unknown := unknownUsage()
	unknown.User, unknown.System, unknown.MaxRSS = u.User, u.System, u.MaxRSS
	unknown.MinorFaults, unknown.MajorFaults = u.MinorFaults, u.MajorFaults
	require.Equal(t, unknown, u, "the rest is not known before the end")
}

// used is what getrusage(2) tells of this process, with the children that it has
// waited for.
func used(t require.TestingT) unix.Rusage {
	var self, children unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &self))
	require.NoError(t, unix.Getrusage(unix.RUSAGE_CHILDREN, &children))
	self.Utime = unix.NsecToTimeval(self.Utime.Nano() + children.Utime.Nano())
	self.Stime = unix.NsecToTimeval(self.Stime.Nano() + children.Stime.Nano())
	self.Minflt += children.Minflt
	self.Majflt += children.Majflt
	return self
}

func TestReadUsageOfNobody(t *testing.T) {
	u := unknownUsage()
	readUsage(math.MaxInt32, &u)
	require.Equal(t, unknownUsage(), u)
}

// A process can give itself a name that looks like fields of /proc/PID/stat.
func TestReadUsageOfHostileName(t *testing.T) {
	c := helperCommand(t, "renamed", "x) R 1 (2 3\n) ")
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)

	u := unknownUsage()
	readUsage(c.Process.Pid, &u)
	var user, system, peak uint64 // ns, ns, KiB
	_, err = fmt.Sscan(line, &user, &system, &peak)
	require.NoError(t, err)
	require.InDelta(t, user+system, u.User+u.System, float64(20*clockTick))
	require.NotZero(t, u.User)
	require.InDelta(t, peak<<10, u.MaxRSS, 64<<20)
	require.NotZero(t, u.MinorFaults)

	require.NoError(t, in.Close())
	require.NoError(t, c.Wait())
}

func init() {
	// renamed takes a name, uses some time, tells what it has used and waits.
	helpers["renamed"] = func() {
		r := report{os.Stderr}
		require.NoError(r, os.WriteFile("/proc/self/comm", []byte(os.Args[1]), 0))
		sum := 0
		usage := used(r)
		for usage.Utime.Nano() < 5*int64(clockTick) {
			for i := range 1 << 20 {
				sum += i
			}
			usage = used(r)
		}
		// Not ru_maxrss, which counts what was there before execve(2).
		status, err := os.ReadFile("/proc/self/status")
		require.NoError(r, err)
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		fmt.Println(usage.Utime.Nano(), usage.Stime.Nano(), strings.Fields(peak)[0])
		_, _ = os.Stdin.Read(make([]byte, 1))
	}
}

func TestReadFile(t *testing.T) {
	checkDescriptors(t)
	path := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(path, []byte("0123456789"), 0o600))
	buf := make([]byte, 4)
	require.Equal(t, "0123", string(readFile(path, buf)), "what fits")
	require.Empty(t, readFile(path+".missing", buf))
	require.Empty(t, readFile(t.TempDir(), buf), "a directory can't be read")
	status := readFile("/proc/self/status", make([]byte, 4096))
	require.True(t, bytes.HasPrefix(status, []byte("Name:")))
	require.Contains(t, strings.Split(string(status), "\n"), fmt.Sprintf("Pid:\t%d", os.Getpid()))
}

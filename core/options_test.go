// SPDX-License-Identifier: Apache-2.0

package core

import (
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// Each option that makes no sense is refused before anything is done, with
// EINVAL and a text that names it as netrunner.h does.
func TestOptionsRefused(t *testing.T) {
	many := func(n int) []Descriptor {
		list := make([]Descriptor, n)
		for i := range list {
			list[i] = Descriptor{FD: 0, Target: 3 + i}
		}
		return list
	}
	for _, c := range []struct {
		name   string
		change func(o *Options)
		why    string
	}{
		{"no arguments", func(o *Options) { o.Argv = nil }, "argv: empty"},
		{"a flag of a newer version", func(o *Options) { o.Flags |= 1 << 8 }, "flags: unknown bits 0x100"},
		{"the highest flag", func(o *Options) { o.Flags |= 1 << 63 }, "flags: unknown bits 0x8000000000000000"},
		{"echo of no terminal", func(o *Options) { o.Flags |= PTYNoEcho }, "flags: NR_PTY_NOECHO without NR_PTY"},
		{"rows of no terminal", func(o *Options) { o.Rows = 24 }, "rows, cols: without NR_PTY"},
		{"columns of no terminal", func(o *Options) { o.Cols = 80 }, "rows, cols: without NR_PTY"},
		{"a pipe of less than nothing", func(o *Options) { o.PipeSize = -1 }, "pipe_size: -1"},
		{"a pipe beyond int", func(o *Options) { o.PipeSize = math.MaxInt32 + 1 }, "pipe_size: 2147483648"},
		{"a time limit in the past", func(o *Options) { o.Timeout = -1 }, "timeout_ms: negative"},
		{"a grace in the past", func(o *Options) { o.KillTimeout = KillNow - 1 }, "kill_timeout_ms: negative, and not NR_KILL_NOW"},
		{"mode bits that are no permissions", func(o *Options) { o.Flags, o.Umask = SetUmask, 0o1000 }, "umask: 01000"},
		{"nicer than possible", func(o *Options) { o.Flags, o.Nice = SetNice, 20 }, "nice: 20 is not in -20..19"},
		{"less nice than possible", func(o *Options) { o.Flags, o.Nice = SetNice, -21 }, "nice: -21 is not in -20..19"},
		{"no user", func(o *Options) { o.Flags, o.UID = SetUID, math.MaxUint32 }, "uid: -1 is no user"},
		{"no group", func(o *Options) { o.Flags, o.GID = SetGID, math.MaxUint32 }, "gid: -1 is no group"},
		{"too many groups", func(o *Options) { o.Flags, o.Groups = SetGroups, make([]uint32, 65537) }, "groups: 65537 are more than 65536"},
		{"a mode that does not exist", func(o *Options) { o.Stdin.Mode = 6 }, "in.mode: 6"},
		{"a mode below zero", func(o *Options) { o.Stdout.Mode = -1 }, "out.mode: -1"},
		{"stdin wherever stdout goes", func(o *Options) { o.Stdin.Mode = StdioStdout }, "in.mode: 5"},
		{"stdout wherever stdout goes", func(o *Options) { o.Stdout.Mode = StdioStdout }, "out.mode: 5"},
		{"a mode after the last", func(o *Options) { o.Stderr.Mode = StdioStdout + 1 }, "err.mode: 6"},
		{"too many descriptors", func(o *Options) { o.Descriptors = many(maxDescriptors + 1) }, fmt.Sprintf("nfds: %d are more than %d", maxDescriptors+1, maxDescriptors)},
		{"a standard target", func(o *Options) { o.Descriptors = []Descriptor{{0, 2}} }, "fds: target 2 is not above 2"},
		{"a target below zero", func(o *Options) { o.Descriptors = []Descriptor{{0, -1}} }, "fds: target -1 is not above 2"},
		{"a target twice", func(o *Options) { o.Descriptors = []Descriptor{{0, 5}, {1, 6}, {2, 5}} }, "fds: target 5 is given twice"},
		{"no such limit", func(o *Options) { o.Rlimits = []wire.Rlimit{{Resource: 16}} }, "rlimits: no resource 16"},
		{"a limit below zero", func(o *Options) { o.Rlimits = []wire.Rlimit{{Resource: -1}} }, "rlimits: no resource -1"},
		{"a soft limit above the hard one", func(o *Options) { o.Rlimits = []wire.Rlimit{{}, {Resource: 7, Soft: 2, Hard: 1}} }, "rlimits: resource 7: soft limit 2 is above hard limit 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Argv: []string{"true"}}
			c.change(&o)
			requireError(t, o.check(), unix.EINVAL, c.why)
		})
	}
}

func TestCgroupOptionsRefused(t *testing.T) {
	for why, o := range map[string]Options{
		"cgroup_base and cgroup_path: only one may be given":                {CgroupBase: "x", CgroupPath: "y"},
		`cgroup_base: "/x" is absolute, not below where cgroup2 is mounted`: {CgroupBase: "/x"},
		`cgroup_path: "a/../b" contains ".."`:                               {CgroupPath: "a/../b"},
		`cgroup_path: "a//b" contains ""`:                                   {CgroupPath: "a//b"},
		`cgroup_path: "./b" contains "."`:                                   {CgroupPath: "./b"},
		`cgroup_path: "b/" contains ""`:                                     {CgroupPath: "b/"},
		"cgroup_set: without cgroup_base or cgroup_path":                    {CgroupSet: []string{"pids.max=1"}},
		`cgroup_set: "pids.max" is not NAME=VALUE`:                          {CgroupBase: "x", CgroupSet: []string{"pids.max"}},
		`cgroup_set: "../pids.max=1" is not NAME=VALUE`:                     {CgroupBase: "x", CgroupSet: []string{"../pids.max=1"}},
		`cgroup_set: "=1" is not NAME=VALUE`:                                {CgroupBase: "x", CgroupSet: []string{"=1"}},
	} {
		t.Run(why, func(t *testing.T) {
			o.Argv = []string{"true"}
			requireError(t, o.check(), unix.EINVAL, why)
		})
	}
}

func TestOptionsAccepted(t *testing.T) {
	most := make([]Descriptor, maxDescriptors)
	for i := range most {
		most[i] = Descriptor{FD: 0, Target: 3 + i}
	}
	for name, o := range map[string]Options{
		"defaults":         {},
		"an empty argv[0]": {Argv: []string{""}},
		"all flags": {
			Flags: PTY | PTYNoEcho | Session | Async | Linger | NoNewPrivs | SetUID | SetGID | SetGroups | SetUmask | SetNice,
			Rows:  math.MaxUint16, Cols: math.MaxUint16,
			UID: math.MaxUint32 - 1, GID: math.MaxUint32 - 1, Groups: make([]uint32, 65536), Umask: 0o777, Nice: -20,
		},
		"values whose flag is not set": {UID: math.MaxUint32, GID: math.MaxUint32, Umask: 0o7777, Nice: 99},
		"the nicest":                   {Flags: SetNice, Nice: 19},
		"all modes":                    {Stdin: Stdio{StdioFD, 0}, Stdout: Stdio{StdioInherit, 0}, Stderr: Stdio{StdioStdout, 0}},
		"no kill timeout":              {KillTimeout: KillNow},
		"the longest times":            {Timeout: math.MaxInt64, KillTimeout: math.MaxInt64},
		"most descriptors":             {Descriptors: most},
		"one descriptor many times":    {Descriptors: []Descriptor{{0, 3}, {0, 4}, {0, math.MaxInt32}}},
		"limits":                       {Rlimits: []wire.Rlimit{{Resource: 0}, {Resource: 15, Soft: math.MaxUint64, Hard: math.MaxUint64}, {Resource: 7, Soft: 1, Hard: 1}, {Resource: 7}}},
	} {
		t.Run(name, func(t *testing.T) {
			if o.Argv == nil {
				o.Argv = []string{"true"}
			}
			require.NoError(t, o.check())
		})
	}
}

// The numbers of flags and modes are those of netrunner.h.
func TestNumbersOfTheHeader(t *testing.T) {
	require.Equal(t, []Flags{1, 2, 4, 8, 16, 32, 64, 128, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20},
		[]Flags{PTY, PTYNoEcho, Session, Async, Linger, OwnShepherd, PIDNamespace, NoNewPrivs,
			SetUID, SetGID, SetGroups, SetUmask, SetNice})
	require.Equal(t, []StdioMode{0, 1, 2, 3, 4, 5},
		[]StdioMode{StdioAuto, StdioPipe, StdioNull, StdioInherit, StdioFD, StdioStdout})
	require.Equal(t, []wire.Reason{0, 1, 2, 3, 4},
		[]wire.Reason{wire.ReasonOwn, wire.ReasonKilled, wire.ReasonTimeout, wire.ReasonOutput, wire.ReasonOOM})
	require.Equal(t, 5*time.Second, DefaultKillTimeout)
}

// Files are looked up as execvp(3) does.
func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env        []string
		want       []string
	}{
		{"in each directory", "prog", []string{"PATH=/a:/b/c"}, []string{"/a/prog", "/b/c/prog"}},
		{"with a slash in front", "/x/prog", []string{"PATH=/a"}, []string{"/x/prog"}},
		{"with a slash inside", "x/prog", []string{"PATH=/a"}, []string{"x/prog"}},
		{"with a slash at the end", "prog/", []string{"PATH=/a"}, []string{"prog/"}},
		{"no name", "", []string{"PATH=/a"}, []string{""}},
		{"no environment", "prog", nil, []string{"/bin/prog", "/usr/bin/prog"}},
		{"no PATH", "prog", []string{"HOME=/", "XPATH=/x", "PATHS=/y", "PATH"}, []string{"/bin/prog", "/usr/bin/prog"}},
		{"an empty PATH is the working directory", "prog", []string{"PATH="}, []string{"prog"}},
		{"an empty element in front", "prog", []string{"PATH=:/a"}, []string{"prog", "/a/prog"}},
		{"an empty element at the end", "prog", []string{"PATH=/a:"}, []string{"/a/prog", "prog"}},
		{"an empty element inside", "prog", []string{"PATH=/a::/b"}, []string{"/a/prog", "prog", "/b/prog"}},
		{"only empty elements", "prog", []string{"PATH=::"}, []string{"prog", "prog", "prog"}},
		{"relative elements", "prog", []string{"PATH=.:bin"}, []string{"./prog", "bin/prog"}},
		{"the first PATH of several, as getenv(3)", "prog", []string{"A=1", "PATH=/a", "PATH=/b"}, []string{"/a/prog"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, lookup(c.file, c.env))
		})
	}
}

func TestFileIsArgv0ByDefault(t *testing.T) {
	require.Equal(t, "name", (&Options{Argv: []string{"name", "x"}}).file())
	require.Equal(t, "other", (&Options{Argv: []string{"name"}, File: "other"}).file())
}

func TestError(t *testing.T) {
	err := failed(unix.ENOENT, "open %s", "/x")
	require.EqualError(t, err, "open /x: no such file or directory")
	require.ErrorIs(t, err, unix.ENOENT)
	require.Equal(t, unix.ENOENT, err.Errno)
	require.Equal(t, unix.EIO, failed(io.ErrUnexpectedEOF, "read").Errno, "what is no errno is EIO")
	require.ErrorIs(t, invalid("x"), unix.EINVAL)
}

// requireError checks an error as a caller of the C interface sees it: the
// errno and the whole text.
func requireError(t *testing.T, err error, errno unix.Errno, why string) {
	t.Helper()
	var e *Error
	require.True(t, errors.As(err, &e), "%v is an *Error", err)
	require.Equal(t, errno, e.Errno, "errno of %q", e.Why)
	require.Equal(t, why, e.Why)
}

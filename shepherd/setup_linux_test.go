// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// runCat runs a program that has no signal handlers and opens nothing, and
// returns when it is past its dynamic linking.
func (h *host) runCat(change func(o *core.Options)) *process {
	h.t.Helper()
	p := h.run(with(command("cat"), change))
	p.write("ready\n")
	p.requireLine("ready")
	return p
}

// The program has exactly the descriptors 0, 1, 2 and those asked for, also
// while the shepherd holds the sockets of others.
func testDescriptors(t *testing.T, h *host) {
	for range 5 {
		h.runCat(func(*core.Options) {})
	}
	file, err := os.Open("/dev/zero")
	require.NoError(t, err)
	defer file.Close()
	fd := int(file.Fd())
	for _, targets := range [][]int{nil, {3}, {4, 3}, {7, 99, 12, 1000}, {64, 63, 62, 61, 60, 10, 11, 12, 13, 14, 15, 16}} {
		p := h.runCat(func(o *core.Options) {
			for _, target := range targets {
				o.Descriptors = append(o.Descriptors, core.Descriptor{FD: fd, Target: target})
			}
		})
		open := files(t, p.pid())
		wanted := append([]int{0, 1, 2}, targets...)
		slices.Sort(wanted)
		require.Equal(t, wanted, sortedKeys(open))
		for _, target := range targets {
			require.Equal(t, "/dev/zero", open[target])
		}
	}
}

// The shepherd receives descriptors under numbers that are those of other
// targets. Whatever the permutation, each target gets its file.
func testRandomDescriptors(t *testing.T, h *host) {
	const most = 40
	var sources []*os.File
	for range most {
		f, err := os.CreateTemp(t.TempDir(), "")
		require.NoError(t, err)
		defer f.Close()
		sources = append(sources, f)
	}
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 0))
		o := core.Options{Argv: []string{"sleep", "1000"}, KillTimeout: core.KillNow}
		if random.IntN(2) == 0 {
			o.Cwd = "/" // one descriptor less: all numbers are others
		}
		wanted := make(map[int]string)
		for i, stdio := range []*core.Stdio{&o.Stdin, &o.Stdout, &o.Stderr} {
			f := sources[random.IntN(most)]
			*stdio = core.Stdio{Mode: core.StdioFD, FD: int(f.Fd())}
			wanted[i] = f.Name()
		}
		targets := random.Perm(most + 3)
		for _, target := range targets[:random.IntN(most)] {
			if target < 3 {
				continue
			}
			f := sources[random.IntN(most)]
			o.Descriptors = append(o.Descriptors, core.Descriptor{FD: int(f.Fd()), Target: target})
			wanted[target] = f.Name()
		}
		p := h.run(o)
		requireFiles(t, p.pid(), wanted) // the dynamic linker may still have a library open
		p.release()
	}
}

// The table of system calls that connects descriptors, carried out on a model
// of a descriptor table.
func TestConnectModel(t *testing.T) {
	for seed := range uint64(1500) {
		random := rand.New(rand.NewPCG(seed, 1))
		// The shepherd's table: some of its own, and what came with a frame.
		table := make(map[int]string)
		for fd := range 8 + random.IntN(10) {
			table[fd] = "the shepherd's own"
		}
		numbers := random.Perm(60)
		var descriptors []int
		for i := range 2 + random.IntN(20) {
			descriptors = append(descriptors, numbers[i])
			table[numbers[i]] = fmt.Sprint("file ", i)
		}
		directory := -1
		if random.IntN(2) == 0 {
			directory = descriptors[1]
		}
		wanted := make(map[int]string)
		var files []wire.File
		targets := random.Perm(60)[:random.IntN(30)]
		for _, target := range append(targets, 0, 1, 2) {
			if _, double := wanted[target]; double {
				continue
			}
			source := 1 + random.IntN(len(descriptors)-1)
			files = append(files, wire.File{Source: int32(source), Target: int32(target)})
			wanted[target] = fmt.Sprint("file ", source)
		}
		random.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })

		var s script
		directory = s.connect(files, descriptors, directory)
		survives := make(map[int]bool) // execve(2)
		for _, r := range s.rows {
			require.EqualValues(t, unix.SYS_DUP3, r.trap)
			from, to := int(r.a0), int(r.a1)
			require.NotEqual(t, from, to, "seed %d: dup3 refuses that", seed)
			require.Contains(t, table, from, "seed %d", seed)
			table[to] = table[from]
			survives[to] = r.a2&unix.O_CLOEXEC == 0
		}
		got := make(map[int]string)
		for fd, keep := range survives {
			if keep {
				got[fd] = table[fd]
			}
		}
		require.Equal(t, wanted, got, "seed %d", seed)
		if directory >= 0 {
			require.Equal(t, "file 1", table[directory], "seed %d: the directory", seed)
		}
	}
}

// A target may have any number that the limit allows, the highest included.
func TestHighestDescriptor(t *testing.T) {
	h := newHost(t)
	file, err := os.Open("/dev/zero")
	require.NoError(t, err)
	defer file.Close()
	h.runCat(func(*core.Options) {}) // starts the shepherd
	const limit = 256
	require.NoError(t, unix.Prlimit(h.shepherdPID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: hardFiles(t)}, nil))
	p := h.runCat(func(o *core.Options) {
		// All of the numbers that the shepherd has, too.
		for target := 3; target < 40; target++ {
			o.Descriptors = append(o.Descriptors, core.Descriptor{FD: int(file.Fd()), Target: target})
		}
		o.Descriptors = append(o.Descriptors, core.Descriptor{FD: int(file.Fd()), Target: limit - 1})
	})
	require.Equal(t, "/dev/zero", files(t, p.pid())[limit-1])
	h.spawn(with(command("cat"), func(o *core.Options) {
		o.Descriptors = []core.Descriptor{{FD: int(file.Fd()), Target: limit}}
	})).requireFailure(unix.EBADF, "dup3 to descriptor 256: bad file descriptor")
}

func hardFiles(t *testing.T) uint64 {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	return limit.Max
}

// A program starts as a shell starts one: nothing blocked, ignored or pending.
func testSignalDispositions(t *testing.T, h *host) {
	pid := h.runCat(func(*core.Options) {}).pid()
	for _, field := range []string{"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"} {
		require.Equal(t, "0000000000000000", status(t, pid, field), field)
	}
}

// Also under a shepherd that was started with signals ignored and blocked, as
// by nohup(1), a daemon, or a runtime that ignores SIGCHLD.
func TestIgnoredSignalsAreReset(t *testing.T) {
	h := newHostWith(t, "ignoring shepherd")
	testSignalDispositions(t, h)
	p := h.run(shell("kill -TSTP $$; sleep 1000"))
	await(t, "it to be suspended", func() bool { return state(p.pid()) == 'T' })
	require.Zero(t, p.signal(unix.SIGHUP))
	require.Zero(t, p.signal(unix.SIGCONT))
	p.requireEnd(-1, int(unix.SIGHUP), wire.ReasonKilled)
}

func init() {
	roles["ignoring shepherd"] = func() {
		signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGUSR1,
			unix.SIGCHLD, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGWINCH, unix.Signal(40))
		runtime.LockOSThread()
		var set unix.Sigset_t
		for i := range set.Val {
			set.Val[i] = ^uint64(0)
		}
		must(unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil))
		must(unix.Exec("/proc/self/exe", append([]string{"shepherd"}, os.Args[1:]...), environment))
	}
}

// What a program is told to be.
func testSettings(t *testing.T, h *host) {
	t.Run("nothing", func(t *testing.T) {
		h.on(t)
		pid := h.runCat(func(*core.Options) {}).pid()
		self := unix.Getpid()
		for _, field := range []string{"Uid", "Gid", "Groups", "Umask"} {
			require.Equal(t, status(t, self, field), status(t, pid, field), field)
		}
		if h.role == "shepherd" {
			require.Equal(t, status(t, self, "NoNewPrivs"), status(t, pid, "NoNewPrivs"))
		}
		require.Equal(t, niceness(t, self), niceness(t, pid))
		for resource := range 16 {
			var ours, theirs unix.Rlimit
			require.NoError(t, unix.Prlimit(0, resource, nil, &ours))
			require.NoError(t, unix.Prlimit(pid, resource, nil, &theirs))
			if resource == unix.RLIMIT_LOCKS {
				ours.Cur, theirs.Cur = 0, 0 // its lineage mark
			}
			require.Equal(t, ours, theirs, "%s", rlimitName(int32(resource)))
		}
	})
	t.Run("a group of its own", func(t *testing.T) {
		h.on(t)
		pid := h.runCat(func(*core.Options) {}).pid()
		group, err := unix.Getpgid(pid)
		require.NoError(t, err)
		require.Equal(t, pid, group)
		session, err := unix.Getsid(pid)
		require.NoError(t, err)
		require.Equal(t, h.shepherds[0].Process.Pid, session)
		require.Equal(t, "0", stat(pid)[4], "no terminal")
	})
	t.Run("a session of its own", func(t *testing.T) {
		h.on(t)
		pid := h.runCat(func(o *core.Options) { o.Flags = core.Session }).pid()
		session, err := unix.Getsid(pid)
		require.NoError(t, err)
		require.Equal(t, pid, session)
		require.Equal(t, "0", stat(pid)[4], "no terminal")
	})
	t.Run("umask", func(t *testing.T) {
		h.on(t)
		for _, mask := range []uint32{0, 0o27, 0o777} {
			pid := h.runCat(func(o *core.Options) { o.Flags, o.Umask = core.SetUmask, mask }).pid()
			require.Equal(t, fmt.Sprintf("%04o", mask), status(t, pid, "Umask"))
		}
	})
	t.Run("umask of the host as it is now", func(t *testing.T) {
		h.on(t)
		saved := unix.Umask(0)
		defer unix.Umask(saved)
		for _, mask := range []int{0o77, 0o2, 0} {
			unix.Umask(mask)
			pid := h.runCat(func(*core.Options) {}).pid()
			require.Equal(t, fmt.Sprintf("%04o", mask), status(t, pid, "Umask"))
		}
	})
	t.Run("niceness", func(t *testing.T) {
		h.on(t)
		for _, nice := range []int32{7, 19} {
			pid := h.runCat(func(o *core.Options) { o.Flags, o.Nice = core.SetNice, nice }).pid()
			require.EqualValues(t, nice, niceness(t, pid))
		}
	})
	t.Run("limits", func(t *testing.T) {
		h.on(t)
		limits := []wire.Rlimit{
			{Resource: unix.RLIMIT_NOFILE, Soft: 20, Hard: 30},
			{Resource: unix.RLIMIT_CORE, Soft: 0, Hard: 0},
			{Resource: unix.RLIMIT_FSIZE, Soft: 1 << 20, Hard: 1 << 30},
		}
		pid := h.runCat(func(o *core.Options) { o.Rlimits = limits }).pid()
		for _, l := range limits {
			var got unix.Rlimit
			require.NoError(t, unix.Prlimit(pid, int(l.Resource), nil, &got))
			require.Equal(t, unix.Rlimit{Cur: l.Soft, Max: l.Hard}, got)
		}
	})
	t.Run("soft limit of descriptors as it is now", func(t *testing.T) {
		h.on(t)
		var saved unix.Rlimit
		require.NoError(t, unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &saved))
		defer func() { require.NoError(t, unix.Prlimit(0, unix.RLIMIT_NOFILE, &saved, nil)) }()
		for _, soft := range []uint64{saved.Cur - 1, saved.Cur - 100} {
			require.NoError(t, unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: soft, Max: saved.Max}, nil))
			var got unix.Rlimit
			require.NoError(t, unix.Prlimit(h.runCat(func(*core.Options) {}).pid(), unix.RLIMIT_NOFILE, nil, &got))
			require.Equal(t, unix.Rlimit{Cur: soft, Max: saved.Max}, got)
		}
	})
	t.Run("no new privileges", func(t *testing.T) {
		h.on(t)
		pid := h.runCat(func(o *core.Options) { o.Flags = core.NoNewPrivs }).pid()
		require.Equal(t, "1", status(t, pid, "NoNewPrivs"))
	})
	t.Run("another user", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root may become somebody else")
		}
		h.on(t)
		for _, c := range []struct {
			flags            core.Flags
			uid, gid, groups string
		}{
			{core.SetUID, "12345", "0", ""},
			{core.SetGID, "0", "23456", ""},
			{core.SetUID | core.SetGID, "12345", "23456", ""},
			{core.SetUID | core.SetGID | core.SetGroups, "12345", "23456", "5 4294967294"},
			{core.SetGroups, "0", "0", "5 4294967294"},
		} {
			pid := h.runCat(func(o *core.Options) {
				o.Flags, o.UID, o.GID, o.Groups = c.flags, 12345, 23456, []uint32{4294967294, 5}
			}).pid()
			four := func(id string) string { return strings.Join([]string{id, id, id, id}, " ") }
			require.Equal(t, four(c.uid), status(t, pid, "Uid"))
			require.Equal(t, four(c.gid), status(t, pid, "Gid"))
			require.Equal(t, c.groups, status(t, pid, "Groups"))
		}
		pid := h.runCat(func(o *core.Options) { o.Flags = core.SetGroups }).pid()
		require.Empty(t, status(t, pid, "Groups"))
	})
	t.Run("everything else before the change of user", func(t *testing.T) {
		if os.Getuid() != 0 || unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -1) != nil {
			t.Skip("only root may become somebody else, or be less nice")
		}
		require.NoError(t, unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 0))
		h.on(t)
		pid := h.runCat(func(o *core.Options) {
			o.Flags, o.UID, o.Nice = core.SetUID|core.SetNice|core.NoNewPrivs, 12345, -5
		}).pid()
		require.Equal(t, -5, niceness(t, pid))
	})
	t.Run("the directory with the program's permissions", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root may become somebody else")
		}
		h.on(t)
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "x"), 0o700))
		h.spawn(with(command("true"), func(o *core.Options) {
			o.Flags, o.UID, o.GID, o.Cwd = core.SetUID|core.SetGID, 12345, 12345, filepath.Join(dir, "x")
		})).requireFailure(unix.EACCES, "chdir "+filepath.Join(dir, "x")+": permission denied")
	})
}

// Whoever becomes somebody else keeps no group of the host's.
func TestHostsGroupsAreDropped(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may become somebody else")
	}
	h := newHost(t)
	h.groups = []uint32{7, 8}
	for flags, want := range map[core.Flags]string{
		0:                            "7 8",
		core.SetUID:                  "",
		core.SetGID:                  "",
		core.SetUID | core.SetGID:    "",
		core.SetGroups:               "9",
		core.SetUID | core.SetGroups: "9",
	} {
		pid := h.runCat(func(o *core.Options) {
			o.Flags, o.UID, o.GID, o.Groups = flags, 12345, 23456, []uint32{9}
		}).pid()
		require.Equal(t, want, status(t, pid, "Groups"), "flags %#x", flags)
	}
}

func niceness(t *testing.T, pid int) int {
	t.Helper()
	n, err := strconv.Atoi(stat(pid)[16])
	require.NoError(t, err)
	return n
}

// A program with a terminal is a session's leader, in the foreground, and what
// is typed reaches it as on any terminal.
func TestTerminal(t *testing.T) {
	h := newHost(t)
	p := h.run(with(shell(`tty >/dev/null && stty size && exec cat`), func(o *core.Options) {
		o.Flags, o.Rows, o.Cols = core.PTY, 33, 44
	}))
	p.requireLine("33 44")
	p.write("typed\n")
	p.requireLine("typed") // the echo
	p.requireLine("typed") // cat
	pid := p.pid()
	session, err := unix.Getsid(pid)
	require.NoError(t, err)
	require.Equal(t, pid, session)
	fields := stat(pid)
	require.NotEqual(t, "0", fields[4], "it has a controlling terminal")
	require.Equal(t, fmt.Sprint(pid), fields[5], "it is in the foreground")
	require.Equal(t, []int{0, 1, 2}, sortedKeys(files(t, pid)))
	p.write("\x03")
	p.requireEnd(-1, int(unix.SIGINT), wire.ReasonOwn)
	_ = p.text()
}

func TestTerminalWithoutEcho(t *testing.T) {
	h := newHost(t)
	p := h.run(with(command("cat"), func(o *core.Options) { o.Flags = core.PTY | core.PTYNoEcho }))
	p.write("secret\n\x04")
	require.Equal(t, "secret\r\n", p.text())
	p.requireEnd(0, -1, wire.ReasonOwn)
}

// Resizing signals the program, which sees the new size.
func TestTerminalResize(t *testing.T) {
	h := newHost(t)
	p := h.run(with(shell(`trap 'stty size' WINCH; stty size; while :; do read line; done`), func(o *core.Options) { o.Flags = core.PTY }))
	p.requireLine("24 80")
	copied, err := unix.FcntlInt(uintptr(p.Streams()[core.Stdout].FD), unix.F_DUPFD_CLOEXEC, 3)
	require.NoError(t, err)
	master := os.NewFile(uintptr(copied), "master")
	defer master.Close()
	require.NoError(t, pty.Setsize(master, &pty.Winsize{Rows: 5, Cols: 6}))
	rows, cols, err := pty.Getsize(master)
	require.NoError(t, err)
	require.Equal(t, []int{5, 6}, []int{rows, cols})
	require.NoError(t, unix.SetNonblock(copied, true)) // package pty has made it blocking
	p.requireLine("5 6")
}

// All that a program wrote before its end is there after it.
func TestTerminalLosesNothing(t *testing.T) {
	h := newHost(t)
	for range 5 {
		p := h.run(with(shell("seq 400"), func(o *core.Options) { o.Flags = core.PTY }))
		p.requireEnd(0, -1, wire.ReasonOwn)
		for i := range 400 {
			p.requireLine(fmt.Sprint(i + 1))
		}
		require.Empty(t, p.text())
	}
}

// A terminal that no stream is connected to is the program's /dev/tty.
func TestTerminalForNoStream(t *testing.T) {
	h := newHost(t)
	pipe := core.Stdio{Mode: core.StdioPipe}
	p := h.run(with(shell("stty size </dev/tty; exec cat"), func(o *core.Options) {
		o.Flags, o.Rows, o.Cols = core.PTY, 12, 34
		o.Stdin, o.Stdout, o.Stderr = pipe, pipe, pipe
	}))
	p.requireLine("12 34")
	p.closeStdin()
	p.requireEnd(0, -1, wire.ReasonOwn)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// The main job must be the same whichever way programs are forked.
func TestMainJob(t *testing.T) {
	for _, role := range []string{"shepherd", "shepherd without clone3", "shepherd refused clone3",
		"shepherd refused close_range", "shepherd refused unshare"} {
		t.Run(role, func(t *testing.T) {
			h := newHostWith(t, role)
			for _, c := range []struct {
				name string
				test func(t *testing.T, h *host)
			}{
				{"failures", testExecFailures},
				{"exit codes", testExitCodes},
				{"ends by signals", testEndBySignal},
				{"lookup", testLookup},
				{"descriptors", testDescriptors},
				{"random descriptors", testRandomDescriptors},
				{"signal dispositions", testSignalDispositions},
				{"settings", testSettings},
				{"the rest of a group", testGroupDiesFirst},
				{"signals exactly once", testSignalsExactlyOnce},
				{"many", testMany},
				{"PID namespaces", testPIDNamespaces},
			} {
				if c.name == "PID namespaces" && role == "shepherd refused unshare" {
					continue // they take it
				}
				t.Run(c.name, func(t *testing.T) {
					h.on(t)
					c.test(t, h)
				})
			}
			require.Len(t, h.shepherds, 1)
		})
	}
}

func testExitCodes(_ *testing.T, h *host) {
	for _, code := range []int{0, 1, 42, 127, 255} {
		h.run(shell("exit $1", fmt.Sprint(code))).requireEnd(code, -1, wire.ReasonOwn)
	}
	h.run(command("true")).requireEnd(0, -1, wire.ReasonOwn)
}

func testEndBySignal(_ *testing.T, h *host) {
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGKILL, unix.SIGTERM, unix.SIGUSR1, unix.Signal(40)} {
		h.run(shell("kill -$1 $$", fmt.Sprint(int(sig)))).requireEnd(-1, int(sig), wire.ReasonOwn)
	}
}

// Each thing that can keep a program from being executed is an error that says
// what, and on what. It is never an exit code.
func testExecFailures(t *testing.T, h *host) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	create := func(name, text string, mode os.FileMode) string {
		require.NoError(t, os.MkdirAll(filepath.Dir(at(name)), 0o755))
		require.NoError(t, os.WriteFile(at(name), []byte(text), 0o755))
		require.NoError(t, os.Chmod(at(name), mode))
		return at(name)
	}
	plain := create("plain", "#!/bin/sh\n", 0o644)
	create("forbidden/prog", "#!/bin/sh\n", 0o644)
	create("garbage/prog", "garbage", 0o755)
	create("fine/prog", "#!/bin/sh\necho fine\n", 0o755)
	loop := at("loop")
	require.NoError(t, os.Symlink("loop", loop))
	long := strings.Repeat("/x", 1<<19)
	path := func(dirs ...string) []string {
		for i, dir := range dirs {
			dirs[i] = at(dir)
		}
		return []string{"PATH=" + strings.Join(dirs, ":")}
	}
	const lookedUp = "execve prog (looked up in PATH): "

	for _, c := range []struct {
		name  string
		o     core.Options
		errno unix.Errno
		why   string
	}{
		{"no such file", command("/nowhere/prog"), unix.ENOENT, "execve /nowhere/prog: no such file or directory"},
		{"no such file here", command("./prog"), unix.ENOENT, "execve ./prog: no such file or directory"},
		{"not executable", command(plain), unix.EACCES, "execve " + plain + ": permission denied"},
		{"a directory", command(dir), unix.EACCES, "execve " + dir + ": permission denied"},
		{"no format", command(at("garbage/prog")), unix.ENOEXEC, "execve " + at("garbage/prog") + ": exec format error"},
		{"below a file", command(plain + "/x"), unix.ENOTDIR, "execve " + plain + "/x: not a directory"},
		{"a loop", command(loop), unix.ELOOP, "execve " + loop + ": too many levels of symbolic links"},
		{"no interpreter", command(create("interpreter", "#!/nowhere/sh\n", 0o755)), unix.ENOENT, "execve " + at("interpreter") + ": no such file or directory"},
		{"an empty name", command(""), unix.ENOENT, "execve : no such file or directory"},
		{"a name too long", command("/" + strings.Repeat("x", 300)), unix.ENAMETOOLONG, "execve /" + strings.Repeat("x", 300) + ": file name too long"},
		{"a name of a megabyte", command(long), unix.ENAMETOOLONG, ("execve " + long)[:unix.PathMax] + "...: file name too long"},
		{"other file than argv[0]", core.Options{Argv: []string{"true"}, File: "/nowhere"}, unix.ENOENT, "execve /nowhere: no such file or directory"},
		{"an argument too long", command("true", strings.Repeat("x", 128<<10)), unix.E2BIG, "execve true (looked up in PATH): argument list too long"},

		{"nowhere in PATH", with(command("prog"), func(o *core.Options) { o.Env = path("a", "b") }), unix.ENOENT, lookedUp + "no such file or directory"},
		{"in the only directory of PATH", with(command("prog"), func(o *core.Options) { o.Env = path("a") }), unix.ENOENT, "execve " + at("a/prog") + ": no such file or directory"},
		{"forbidden, then nowhere", with(command("prog"), func(o *core.Options) { o.Env = path("forbidden", "a") }), unix.EACCES, lookedUp + "permission denied"},
		{"nowhere, then forbidden", with(command("prog"), func(o *core.Options) { o.Env = path("a", "forbidden") }), unix.EACCES, lookedUp + "permission denied"},
		{"forbidden, then below a file", with(command("prog"), func(o *core.Options) { o.Env = path("forbidden", "plain") }), unix.EACCES, lookedUp + "permission denied"},
		{"garbage ends the search", with(command("prog"), func(o *core.Options) { o.Env = path("garbage", "fine") }), unix.ENOEXEC, lookedUp + "exec format error"},
		{"garbage after forbidden", with(command("prog"), func(o *core.Options) { o.Env = path("forbidden", "garbage", "fine") }), unix.ENOEXEC, lookedUp + "exec format error"},

		{"no directory", with(command("true"), func(o *core.Options) { o.Cwd = "/nowhere" }), unix.ENOENT, "chdir /nowhere: no such file or directory"},
		{"no directory here", with(command("true"), func(o *core.Options) { o.Cwd = "nowhere" }), unix.ENOENT, "chdir nowhere: no such file or directory"},
		{"a directory with a name of a megabyte", with(command("true"), func(o *core.Options) { o.Cwd = long }), unix.ENAMETOOLONG, ("chdir " + long)[:unix.PathMax] + "...: file name too long"},
		{"a file as directory", with(command("true"), func(o *core.Options) { o.Cwd = plain }), unix.ENOTDIR, "chdir " + plain + ": not a directory"},
		{"descriptor above all limits", with(command("true"), func(o *core.Options) { o.Descriptors = []core.Descriptor{{FD: 0, Target: 1 << 30}} }), unix.EBADF, "dup3 to descriptor 1073741824: bad file descriptor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.on(t)
			h.spawn(c.o).requireFailure(c.errno, c.why)
		})
	}
	await(t, "the failed ones to be reaped", func() bool { return len(programs(t, h.shepherdPID())) == 0 })
	h.run(command("true")).requireEnd(0, -1, wire.ReasonOwn)
}

// An unprivileged host's programs can't be what it may not make them. The
// shepherd has no more rights than its host.
func TestNoPrivilege(t *testing.T) {
	h := newHost(t)
	h.unprivileged = true
	hard := func(resource int32) []wire.Rlimit {
		return []wire.Rlimit{{Resource: resource, Soft: 1 << 40, Hard: 1 << 40}}
	}
	var nofile unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &nofile))
	for _, c := range []struct {
		name   string
		change func(o *core.Options)
		errno  unix.Errno
		why    string
	}{
		{"user", func(o *core.Options) { o.Flags, o.UID = core.SetUID, 0 }, unix.EPERM, "setuid 0: operation not permitted"},
		{"group", func(o *core.Options) { o.Flags, o.GID = core.SetGID, 0 }, unix.EPERM, "setgid 0: operation not permitted"},
		{"groups", func(o *core.Options) { o.Flags, o.Groups = core.SetGroups, []uint32{0} }, unix.EPERM, "setgroups: operation not permitted"},
		{"niceness", func(o *core.Options) { o.Flags, o.Nice = core.SetNice, -20 }, unix.EACCES, "setpriority -20: permission denied"},
		{"limit", func(o *core.Options) { o.Rlimits = hard(unix.RLIMIT_NOFILE) }, unix.EPERM, "setrlimit RLIMIT_NOFILE: operation not permitted"},
		{"directory", func(o *core.Options) { o.Cwd = "/root/x" }, unix.EACCES, "chdir /root/x: permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "directory" {
				if info, err := os.Stat("/root"); err != nil || info.Mode().Perm()&0o011 != 0 {
					t.Skip("/root is open to all")
				}
			}
			h.on(t)
			h.spawn(with(command("/bin/true"), c.change)).requireFailure(c.errno, c.why)
		})
	}
	// What it is already it may ask for.
	p := h.run(with(command("cat"), func(o *core.Options) {
		o.Flags = core.SetUID | core.SetGID
		o.UID, o.GID = h.uid(), h.gid()
	}))
	require.Equal(t, strings.TrimSpace(strings.Repeat(fmt.Sprint(h.uid(), " "), 4)), status(t, p.pid(), "Uid"))
}

// The file is looked up in the PATH of the program's own environment, from its
// own directory.
func testLookup(t *testing.T, h *host) {
	dir := t.TempDir()
	for _, name := range []string{"bin/prog", "prog", "forbidden/prog"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho $0\n"), 0o755))
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "forbidden/prog"), 0o644))
	for _, c := range []struct{ path, cwd, want string }{
		{"/nowhere:" + dir + "/bin:" + dir, "/", dir + "/bin/prog"},
		{dir + "/forbidden:" + dir, "/", dir + "/prog"},
		{"bin:", dir, "bin/prog"},
		{":bin", dir, "prog"},
		{"nowhere:", dir, "prog"},
		{"", dir, "prog"},
	} {
		p := h.run(core.Options{Argv: []string{"prog"}, Cwd: c.cwd, Env: []string{"PATH=" + c.path}})
		require.Equal(t, c.want+"\n", p.text(), "PATH=%s in %s", c.path, c.cwd)
		p.requireEnd(0, -1, wire.ReasonOwn)
	}
	p := h.run(core.Options{Argv: []string{"sh", "-c", "echo found"}, Env: []string{}})
	p.requireLine("found") // without any PATH
}

func TestArgumentsAndEnvironment(t *testing.T) {
	h := newHost(t)
	argv := []string{"zeroth", "-c", `printf '%s|' "$0" "$@"`, "", "with space", "new\nline", "\xff\x01", "*"}
	p := h.run(core.Options{File: "/bin/sh", Argv: argv})
	require.Equal(t, "|with space|new\nline|\xff\x01|*|", p.text())

	env := []string{"B=2", "A=1", "NAME=with space", "EMPTY=", "B=again", "odd"}
	p = h.run(core.Options{Argv: []string{"/bin/cat", "/proc/self/environ"}, Env: env})
	require.Equal(t, strings.Join(env, "\x00")+"\x00", p.text(), "exactly these, in this order")
	p = h.run(core.Options{Argv: []string{"/bin/cat", "/proc/self/environ"}, Env: []string{}})
	require.Empty(t, p.text())
}

// Arguments and environment may be as large as the kernel takes them, whole
// frames of more than the socket holds.
func TestLargeArguments(t *testing.T) {
	h := newHost(t)
	const each = 128<<10 - 1 // MAX_ARG_STRLEN without the NUL
	argv := []string{"sh", "-c", `echo $# ${#1} ${#8} ${#BIG}`, "sh"}
	for range 8 {
		argv = append(argv, strings.Repeat("x", each))
	}
	env := []string{searchPath, "BIG=" + strings.Repeat("y", each-4)}
	for i := range 5 {
		env = append(env, fmt.Sprintf("V%d=%s", i, strings.Repeat("z", each-3)))
	}
	p := h.run(core.Options{Argv: argv, Env: env})
	p.requireLine(fmt.Sprintln(8, each, each, each-4)[:len(fmt.Sprint(8, each, each, each-4))])
	p.requireEnd(0, -1, wire.ReasonOwn)

	for range 30 {
		argv = append(argv, strings.Repeat("x", each))
	}
	h.spawn(core.Options{Argv: argv, Env: env}).requireFailure(unix.E2BIG, "execve sh (looked up in PATH): argument list too long")
}

func TestWorkingDirectory(t *testing.T) {
	h := newHost(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	t.Chdir(dir)
	for cwd, want := range map[string]string{"": dir, "/": "/", "sub": dir + "/sub", "..": filepath.Dir(dir), dir + "/sub": dir + "/sub"} {
		p := h.run(with(command("pwd"), func(o *core.Options) { o.Cwd = cwd }))
		require.Equal(t, want+"\n", p.text(), "from %q", cwd)
	}
	// Where the host is now, not where it was when the shepherd was started.
	t.Chdir(filepath.Join(dir, "sub"))
	require.Equal(t, dir+"/sub\n", h.run(command("pwd")).text())
	require.Len(t, h.shepherds, 1)
}

// Data goes through unchanged, in any amount, in both directions at once.
func TestStreams(t *testing.T) {
	h := newHost(t)
	p := h.run(command("cat"))
	data := strings.Repeat("0123456789abcdef\x00\xff\n", 50_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for left := data; len(left) > 0; {
			n, err := unix.Write(p.Streams()[core.Stdin].FD, []byte(left))
			if err == unix.EAGAIN {
				pollFor(p.Streams()[core.Stdin].FD, unix.POLLOUT, time.Second)
				continue
			}
			if err != nil {
				return
			}
			left = left[n:]
		}
	}()
	for p.output[core.Stdout].Len() < len(data) {
		require.NoError(t, p.fill(core.Stdout))
	}
	<-done
	p.closeStdin()
	require.True(t, data == p.text(), "what comes out is what went in")
	p.requireEnd(0, -1, wire.ReasonOwn)

	p = h.run(with(shell("echo out; echo err >&2"), func(o *core.Options) { o.Stderr.Mode = core.StdioPipe }))
	require.Equal(t, "out\n", p.rest(core.Stdout))
	require.Equal(t, "err\n", p.rest(core.Stderr))
	require.Equal(t, "out\nerr\n", h.run(shell("echo out; echo err >&2")).text(), "in one stream, in order")
}

// What ran tells what it used, and when it ended.
func TestUsageAndTime(t *testing.T) {
	h := newHost(t)
	before := now()
	p := h.run(shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done"))
	exit := p.wait()
	require.LessOrEqual(t, before, exit.Time)
	require.LessOrEqual(t, exit.Time, now())
	require.NotZero(t, exit.Usage.User+exit.Usage.System)
	require.Less(t, exit.Usage.User, uint64(hang))
	require.Greater(t, exit.Usage.MaxRSS, uint64(100<<10))
	require.Less(t, exit.Usage.MaxRSS, uint64(1<<40))
	require.NotZero(t, exit.Usage.MinorFaults)
	require.Equal(t, exit.Usage, p.Usage().Usage)

	p = h.run(command("cat"))
	require.NotZero(t, p.Usage().MaxRSS)
}

// A program that ends before anybody looks has ended all the same.
func TestUnreadProcess(t *testing.T) {
	h := newHost(t)
	var all []*process
	for code := range 20 {
		all = append(all, h.spawn(shell("exit $1", fmt.Sprint(code))))
	}
	probe := h.run(command("true")) // is behind them in the queue
	probe.requireEnd(0, -1, wire.ReasonOwn)
	await(t, "the shepherd to have no program left", func() bool {
		return len(programs(t, h.shepherdPID())) == 0
	})
	for code, p := range all {
		await(t, "news", func() bool { return pollFor(p.Socket(), unix.POLLIN, 0) })
		p.requireEnd(code, -1, wire.ReasonOwn)
	}
}

// uid and gid are those that an unprivileged host has.
func (h *host) uid() uint32 {
	if c := h.credential(); c != nil {
		return c.Uid
	}
	return uint32(os.Getuid())
}

func (h *host) gid() uint32 {
	if c := h.credential(); c != nil {
		return c.Gid
	}
	return uint32(os.Getgid())
}

// credential is what the shepherds run with that are not to be as this process
// is, or nil where it has no privilege itself.
func (h *host) credential() *syscall.Credential {
	switch {
	case os.Getuid() != 0:
		return nil
	case h.unprivileged:
		return &syscall.Credential{Uid: 65534, Gid: 65534}
	case h.groups != nil:
		return &syscall.Credential{Groups: h.groups}
	}
	return nil
}

func testPIDNamespaces(t *testing.T, h *host) {
	inside := func(o *core.Options) { o.Flags |= core.PIDNamespace }
	before := programs(t, h.shepherdPID())
	for range 20 {
		h.run(with(shell("exit $$"), inside)).requireEnd(2, -1, wire.ReasonOwn)
		h.spawn(with(command("/nowhere"), inside)).requireFailure(unix.ENOENT, "execve /nowhere: no such file or directory")
	}
	require.Subset(t, before, programs(t, h.shepherdPID()), "nothing of them is left")
}

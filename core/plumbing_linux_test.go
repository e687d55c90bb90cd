// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func newTestRunner() *Runner {
	return NewRunner("1.0.0-test", func(fd int) { _ = unix.Close(fd) })
}

// discard closes all descriptors of a process that is not launched: p's own,
// and those that are the caller's.
func discard(p *Process) {
	p.Abandon()
	closeEnds(p)
}

// closeEnds closes the host's ends, which are the caller's.
func closeEnds(p *Process) {
	_ = unix.Close(p.Socket())
	if p.Master() >= 0 {
		_ = unix.Close(p.Master())
	}
	for _, s := range p.Streams() {
		if s.FD >= 0 {
			_ = unix.Close(s.FD)
		}
	}
}

// target returns the descriptor of p's frame that becomes the program's target.
func target(t require.TestingT, p *Process, target int) int {
	for _, f := range p.plumbing.files {
		if int(f.Target) == target {
			return p.plumbing.descriptors[f.Source]
		}
	}
	require.FailNow(t, fmt.Sprintf("nothing becomes descriptor %d", target))
	return -1
}

// sameFile tells whether two descriptors are of one file.
func sameFile(t require.TestingT, a, b int) bool {
	var sa, sb unix.Stat_t
	require.NoError(t, unix.Fstat(a, &sa))
	require.NoError(t, unix.Fstat(b, &sb))
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino && sa.Rdev == sb.Rdev
}

// What each mode connects the program's streams to, and what the host gets.
func TestPlumbModes(t *testing.T) {
	checkDescriptors(t)
	file, err := os.Create(t.TempDir() + "/file")
	require.NoError(t, err)
	defer file.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	require.NoError(t, err)
	defer null.Close()

	check := func(name string, o Options, examine func(t *testing.T, p *Process)) {
		t.Run(name, func(t *testing.T) {
			checkDescriptors(t)
			o.Argv = []string{"true"}
			p, err := newTestRunner().Prepare(&o, "/shepherd")
			require.NoError(t, err)
			defer discard(p)
			for _, fd := range p.plumbing.own {
				requireOurs(t, fd)
			}
			for _, s := range p.Streams() {
				if s.FD >= 0 {
					requireOurs(t, s.FD)
					flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFL, 0)
					require.NoError(t, err)
					require.NotZero(t, flags&unix.O_NONBLOCK, "the host's ends do not block")
				}
			}
			examine(t, p)
		})
	}
	requirePipe := func(t *testing.T, p *Process, stream int) {
		t.Helper()
		host, program := p.Streams()[stream].FD, target(t, p, stream)
		require.GreaterOrEqual(t, host, 0)
		write, read := program, host
		if stream == Stdin {
			write, read = host, program
		}
		_, err := unix.Write(write, []byte("x"))
		require.NoError(t, err)
		n, err := unix.Read(read, make([]byte, 2))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		flags, err := unix.FcntlInt(uintptr(program), unix.F_GETFL, 0)
		require.NoError(t, err)
		require.Zero(t, flags&unix.O_NONBLOCK, "the program's ends block")
		require.False(t, p.Streams()[stream].Terminal)
	}
	requireFile := func(t *testing.T, p *Process, stream, file int) {
		t.Helper()
		require.Equal(t, -1, p.Streams()[stream].FD, "the host has no end of it")
		require.True(t, sameFile(t, file, target(t, p, stream)))
	}

	check("defaults", Options{}, func(t *testing.T, p *Process) {
		requirePipe(t, p, Stdin)
		requirePipe(t, p, Stdout)
		requireFile(t, p, Stderr, 2)
	})
	check("pipes", Options{Stdin: Stdio{Mode: StdioPipe}, Stdout: Stdio{Mode: StdioPipe}, Stderr: Stdio{Mode: StdioPipe}}, func(t *testing.T, p *Process) {
		for i := range 3 {
			requirePipe(t, p, i)
		}
	})
	check("null", Options{Stdin: Stdio{Mode: StdioNull}, Stdout: Stdio{Mode: StdioNull}, Stderr: Stdio{Mode: StdioNull}}, func(t *testing.T, p *Process) {
		for i := range 3 {
			requireFile(t, p, i, int(null.Fd()))
		}
	})
	check("inherit", Options{Stdin: Stdio{Mode: StdioInherit}, Stdout: Stdio{Mode: StdioInherit}, Stderr: Stdio{Mode: StdioInherit}}, func(t *testing.T, p *Process) {
		for i := range 3 {
			requireFile(t, p, i, i)
		}
	})
	ofFile := Stdio{StdioFD, int(file.Fd())}
	check("a descriptor", Options{Stdin: ofFile, Stdout: ofFile, Stderr: ofFile}, func(t *testing.T, p *Process) {
		for i := range 3 {
			requireFile(t, p, i, int(file.Fd()))
		}
	})
	check("stderr to the pipe of stdout", Options{Stderr: Stdio{Mode: StdioStdout}}, func(t *testing.T, p *Process) {
		requirePipe(t, p, Stdout)
		require.Equal(t, target(t, p, Stdout), target(t, p, Stderr))
		require.Equal(t, -1, p.Streams()[Stderr].FD)
	})
	check("stderr to the descriptor of stdout", Options{Stdout: ofFile, Stderr: Stdio{Mode: StdioStdout}}, func(t *testing.T, p *Process) {
		requireFile(t, p, Stderr, int(file.Fd()))
	})
	check("further descriptors", Options{Descriptors: []Descriptor{{int(file.Fd()), 7}, {int(file.Fd()), 3}, {int(null.Fd()), 1 << 20}}}, func(t *testing.T, p *Process) {
		require.True(t, sameFile(t, int(file.Fd()), target(t, p, 7)))
		require.True(t, sameFile(t, int(file.Fd()), target(t, p, 3)))
		require.True(t, sameFile(t, int(null.Fd()), target(t, p, 1<<20)))
		require.Len(t, p.plumbing.files, 6)
	})
	check("large pipes", Options{PipeSize: 256 << 10}, func(t *testing.T, p *Process) {
		for _, i := range []int{Stdin, Stdout} {
			size, err := unix.FcntlInt(uintptr(p.Streams()[i].FD), unix.F_GETPIPE_SZ, 0)
			require.NoError(t, err)
			require.Equal(t, 256<<10, size)
		}
	})
}

// requireOurs checks what goes for all descriptors that the library opens.
func requireOurs(t require.TestingT, fd int) {
	require.Greater(t, fd, 2, "0, 1 and 2 are the host's")
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err, "descriptor %d", fd)
	require.Equal(t, unix.FD_CLOEXEC, flags&unix.FD_CLOEXEC, "descriptor %d is close-on-exec", fd)
}

// A descriptor that is not open is an error which names the option. It can't
// be taken for one of those that Prepare itself opens meanwhile.
func TestPlumbClosedDescriptor(t *testing.T) {
	checkDescriptors(t)
	closed, err := unix.Dup(0) // the number that the next open gets
	require.NoError(t, err)
	require.NoError(t, unix.Close(closed))
	for _, c := range []struct {
		name string
		o    Options
		why  string
	}{
		{"stdin", Options{Stdin: Stdio{StdioFD, closed}}, "in: descriptor %d: bad file descriptor"},
		{"stdout", Options{Stdout: Stdio{StdioFD, closed}}, "out: descriptor %d: bad file descriptor"},
		{"stderr", Options{Stderr: Stdio{StdioFD, closed}}, "err: descriptor %d: bad file descriptor"},
		{"a further one", Options{Descriptors: []Descriptor{{0, 3}, {closed, 4}}}, "fds: descriptor %d: bad file descriptor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Argv = []string{"true"}
			_, err := newTestRunner().Prepare(&c.o, "/shepherd")
			requireError(t, err, unix.EBADF, fmt.Sprintf(c.why, closed))
		})
	}
	o := Options{Argv: []string{"true"}, Stdin: Stdio{StdioFD, -1}}
	_, err = newTestRunner().Prepare(&o, "/shepherd")
	requireError(t, err, unix.EBADF, "in: descriptor -1: bad file descriptor")
}

func TestPlumbAbsurdPipe(t *testing.T) {
	checkDescriptors(t)
	o := Options{Argv: []string{"true"}, PipeSize: 1 << 31 / 2}
	p, err := newTestRunner().Prepare(&o, "/shepherd")
	if err == nil { // a kernel that allows it
		discard(p)
		return
	}
	require.ErrorContains(t, err, "pipe_size: fcntl F_SETPIPE_SZ")
}

// shapes are Options that make Prepare open everything that it can open.
func shapes() map[string]Options {
	pipe, null := Stdio{Mode: StdioPipe}, Stdio{Mode: StdioNull}
	return map[string]Options{
		"pipes":                 {Stdin: pipe, Stdout: pipe, Stderr: pipe},
		"null":                  {Stdin: null, Stdout: null, Stderr: null},
		"stderr with stdout":    {Stderr: Stdio{Mode: StdioStdout}},
		"absolute directory":    {Cwd: "/"},
		"terminal":              {Flags: PTY | PTYNoEcho},
		"terminal and pipes":    {Flags: PTY, Stdin: pipe, Stdout: pipe},
		"terminal for input":    {Flags: PTY, Stdout: pipe, Stderr: pipe},
		"terminal for nothing":  {Flags: PTY, Stdin: pipe, Stdout: null, Stderr: pipe},
		"stderr as it is there": {Stdin: null, Stdout: pipe},
	}
}

// Without room for descriptors Prepare fails, at whichever step, and leaves
// all as it was: in particular nothing of the host's is closed.
func TestPrepareWithoutDescriptors(t *testing.T) {
	for name, o := range shapes() {
		t.Run(name, func(t *testing.T) {
			o.Argv = []string{"true"}
			runner := newTestRunner()
			for room := 0; ; room++ {
				require.Less(t, room, 20, "Prepare never has enough")
				before := descriptors(t)
				var p *Process
				var err error
				withDescriptorRoom(t, room, func() { p, err = runner.Prepare(&o, "/shepherd") })
				if err == nil {
					discard(p)
				}
				require.Equal(t, before, descriptors(t), "with room for %d", room)
				if err == nil {
					require.NotZero(t, room)
					return
				}
				require.ErrorIs(t, err, unix.EMFILE)
				require.Contains(t, err.Error(), ": too many open files")
			}
		})
	}
}

// A host may have closed any of its standard descriptors. None of ours takes
// their place, where the host's next open(2), and then its output, would hit
// it.
func TestPlumbWithClosedStdio(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	c := helperCommand(t, "closed-stdio")
	c.ExtraFiles = []*os.File{w}
	require.NoError(t, c.Start())
	require.NoError(t, w.Close())
	complaints := make([]byte, 64<<10)
	n, _ := r.Read(complaints)
	require.Empty(t, string(complaints[:n]))
	require.NoError(t, c.Wait())
}

func init() {
	helpers["closed-stdio"] = func() {
		unix.CloseOnExec(3)
		r := report{os.NewFile(3, "report")}
		for subset := range 8 {
			var saved [3]int
			for fd := range 3 {
				var err error
				saved[fd], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
				require.NoError(r, err)
				if subset&(1<<fd) != 0 {
					require.NoError(r, unix.Close(fd))
				}
			}
			for name, o := range shapes() {
				before := descriptors(r)
				o.Argv = []string{"true"}
				p, err := newTestRunner().Prepare(&o, "/shepherd")
				require.NoError(r, err, "%s with %03b closed", name, subset)
				for fd := range descriptors(r) {
					if _, was := before[fd]; !was {
						requireOurs(r, fd)
					}
				}
				for fd := range 3 {
					require.Equal(r, subset&(1<<fd) == 0, isOpen(fd), "%s with %03b closed: descriptor %d", name, subset, fd)
				}
				// The program's own three are all connected nevertheless.
				for fd := range 3 {
					require.True(r, isOpen(target(r, p, fd)))
				}
				discard(p)
				require.Equal(r, before, descriptors(r), "%s with %03b closed", name, subset)
			}
			for fd := range 3 {
				o := Options{Argv: []string{"true"}}
				[]*Stdio{&o.Stdin, &o.Stdout, &o.Stderr}[fd].Mode = StdioInherit
				p, err := newTestRunner().Prepare(&o, "/shepherd")
				if subset&(1<<fd) == 0 {
					require.NoError(r, err)
					discard(p)
					continue
				}
				require.ErrorIs(r, err, unix.EBADF)
				require.EqualError(r, err, fmt.Sprintf("%s: NR_STDIO_INHERIT of descriptor %d: bad file descriptor", streamNames[fd], fd))
			}
			fd := hostPIDFD()
			requireOurs(r, fd)
			require.NoError(r, unix.Close(fd))
			for fd := range 3 {
				require.NoError(r, unix.Dup3(saved[fd], fd, 0))
				require.NoError(r, unix.Close(saved[fd]))
			}
		}
	}
}

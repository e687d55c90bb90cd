// SPDX-License-Identifier: Apache-2.0

package core

import (
	"os"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// asFile makes a File of a copy of fd, for package pty. Its functions make the
// terminal blocking, so that a test looks at O_NONBLOCK before.
func asFile(t *testing.T, fd int) *os.File {
	t.Helper()
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	require.NoError(t, err)
	f := os.NewFile(uintptr(copied), "terminal")
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func prepare(t *testing.T, o Options) *Process {
	t.Helper()
	checkDescriptors(t)
	o.Argv = []string{"true"}
	p, err := newTestRunner().Prepare(&o, "/shepherd")
	require.NoError(t, err)
	t.Cleanup(func() { discard(p) })
	return p
}

func requireSize(t *testing.T, fd, rows, cols int) {
	t.Helper()
	gotRows, gotCols, err := pty.Getsize(asFile(t, fd))
	require.NoError(t, err)
	require.Equal(t, []int{rows, cols}, []int{gotRows, gotCols})
}

// The size is as asked for, at both ends of the terminal.
func TestTerminalSize(t *testing.T) {
	for name, c := range map[string]struct {
		o          Options
		rows, cols int
	}{
		"default":  {Options{}, 24, 80},
		"given":    {Options{Rows: 50, Cols: 132}, 50, 132},
		"rows":     {Options{Rows: 1}, 1, 80},
		"columns":  {Options{Cols: 65535}, 24, 65535},
		"for pipe": {Options{Rows: 3, Cols: 4, Stdin: Stdio{Mode: StdioPipe}}, 3, 4},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Flags |= PTY
			p := prepare(t, c.o)
			requireSize(t, p.Streams()[Stdout].FD, c.rows, c.cols)
			requireSize(t, target(t, p, Stdout), c.rows, c.cols)
		})
	}
}

// All descriptors of the terminal are of one terminal: what is set through one
// is seen through the others.
func TestTerminalIsOne(t *testing.T) {
	p := prepare(t, Options{Flags: PTY})
	streams := p.Streams()
	require.True(t, streams[Stdin].Terminal)
	require.True(t, streams[Stdout].Terminal)
	require.Equal(t, Stream{FD: -1}, streams[Stderr])
	require.NotEqual(t, streams[Stdin].FD, streams[Stdout].FD)
	require.NoError(t, pty.Setsize(asFile(t, streams[Stdin].FD), &pty.Winsize{Rows: 7, Cols: 8}))
	requireSize(t, streams[Stdout].FD, 7, 8)
	for fd := range 3 {
		requireSize(t, target(t, p, fd), 7, 8)
	}
	requireSize(t, p.Master(), 7, 8)
	requireOurs(t, p.Master())
}

// Which of the host's streams are the terminal, when some are something else.
func TestTerminalStreams(t *testing.T) {
	pipe, null := Stdio{Mode: StdioPipe}, Stdio{Mode: StdioNull}
	for name, c := range map[string]struct {
		o         Options
		terminals [3]bool // the host's streams
		programs  [3]bool // the program's
	}{
		"all":                 {Options{}, [3]bool{true, true, false}, [3]bool{true, true, true}},
		"stderr is a pipe":    {Options{Stderr: pipe}, [3]bool{true, true, false}, [3]bool{true, true, false}},
		"stderr as stdout":    {Options{Stderr: Stdio{Mode: StdioStdout}}, [3]bool{true, true, false}, [3]bool{true, true, true}},
		"stdin is a pipe":     {Options{Stdin: pipe}, [3]bool{false, true, false}, [3]bool{false, true, true}},
		"stdout is a pipe":    {Options{Stdout: pipe}, [3]bool{true, false, true}, [3]bool{true, false, true}},
		"only stdin":          {Options{Stdout: pipe, Stderr: null}, [3]bool{true, false, false}, [3]bool{true, false, false}},
		"only stderr":         {Options{Stdin: null, Stdout: pipe}, [3]bool{false, false, true}, [3]bool{false, false, true}},
		"none, only /dev/tty": {Options{Stdin: pipe, Stdout: pipe, Stderr: pipe}, [3]bool{}, [3]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Flags |= PTY
			p := prepare(t, c.o)
			for i, s := range p.Streams() {
				require.Equal(t, c.terminals[i], s.Terminal, "the host's %s", streamNames[i])
				_, err := unix.IoctlGetTermios(target(t, p, i), unix.TCGETS)
				require.Equal(t, c.programs[i], err == nil, "the program's %s", streamNames[i])
			}
			slave := p.plumbing.descriptors[p.plumbing.terminal]
			_, err := unix.IoctlGetTermios(slave, unix.TCGETS)
			require.NoError(t, err, "the controlling terminal")
		})
	}
}

func TestTerminalEcho(t *testing.T) {
	for name, flags := range map[string]Flags{"on": PTY, "off": PTY | PTYNoEcho} {
		t.Run(name, func(t *testing.T) {
			p := prepare(t, Options{Flags: flags})
			termios, err := unix.IoctlGetTermios(target(t, p, Stdin), unix.TCGETS)
			require.NoError(t, err)
			require.Equal(t, flags&PTYNoEcho == 0, termios.Lflag&unix.ECHO != 0)
			require.NotZero(t, termios.Lflag&unix.ICANON, "nothing else is changed")
		})
	}
}

// Closing the host's ends of the streams is no hang-up, which would throw away
// what the program has not read. Closing its last descriptor of it is.
func TestTerminalHangsUp(t *testing.T) {
	p := prepare(t, Options{Flags: PTY})
	slave := target(t, p, Stdin)
	hungUp := func() bool {
		fds := []unix.PollFd{{Fd: int32(slave)}}
		_, err := unix.Poll(fds, 0)
		require.NoError(t, err)
		return fds[0].Revents&unix.POLLHUP != 0
	}
	for _, i := range []int{Stdin, Stdout} {
		require.NoError(t, unix.Close(p.plumbing.streams[i].FD))
		p.plumbing.streams[i].FD = -1
		require.False(t, hungUp())
	}
	require.NoError(t, unix.Close(p.plumbing.master))
	p.plumbing.master = -1
	require.True(t, hungUp())
}

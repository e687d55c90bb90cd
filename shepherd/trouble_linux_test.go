// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// rawHost speaks the protocol by hand, also wrongly.
type rawHost struct {
	*host
	*keeper
}

func newRawHost(t *testing.T) *rawHost {
	t.Helper()
	h := newHost(t)
	k := h.startShepherd()
	h.pid(k) // while it has nothing to end for
	return &rawHost{h, k}
}

// greeted is a rawHost after both Hellos.
func greetedHost(t *testing.T) *rawHost {
	t.Helper()
	h := newRawHost(t)
	h.greet(wire.Revision, version)
	require.Equal(t, wire.TypeHello, h.next(h.control).Type)
	return h
}

func (h *rawHost) greet(revision uint32, version string) {
	h.t.Helper()
	h.send(h.control, (&wire.Hello{Role: wire.RoleHost, Revision: revision, Version: version, PID: int32(unix.Getpid())}).Encode(0))
}

func (h *rawHost) send(fd int, b []byte, descriptors ...int) {
	h.t.Helper()
	for len(b) > 0 {
		n, err := wire.Send(fd, b, descriptors)
		if err == unix.EAGAIN {
			require.True(h.t, pollFor(fd, unix.POLLOUT, hang))
			continue
		}
		require.NoError(h.t, err)
		b, descriptors = b[n:], nil
	}
}

type rawFrame struct {
	wire.Header
	payload []byte
}

var errEnough = errors.New("one is enough")

// next waits for the next frame. Type 0 is the end.
func (h *rawHost) next(fd int) rawFrame {
	h.t.Helper()
	var got rawFrame
	var reader wire.Reader
	scratch := make([]byte, 1) // so that nothing is read ahead
	for {
		err := reader.Read(fd, scratch, func(header wire.Header, payload []byte, _ []int) error {
			got = rawFrame{header, slices.Clone(payload)}
			return errEnough
		})
		switch {
		case err == errEnough:
			return got
		case err == io.EOF, err == unix.ECONNRESET:
			return got
		case err == unix.EAGAIN:
			require.True(h.t, pollFor(fd, unix.POLLIN, hang), "the shepherd says nothing")
		default:
			require.NoError(h.t, err)
		}
	}
}

// rawProgram is the host's end of a process socket.
type rawProgram struct {
	h      *rawHost
	socket int
	pid    int
}

// catSpawn asks for a program that lives until it is killed.
func catSpawn() *wire.Spawn {
	return &wire.Spawn{
		Setup: wire.Setup{
			KillTimeout: int64(long),
			Files:       []wire.File{{Source: 1, Target: 0}, {Source: 1, Target: 1}, {Source: 1, Target: 2}},
		},
		Program: "sleep", Paths: []string{"/bin/sleep", "/usr/bin/sleep"}, Argv: []string{"sleep", "1000"},
	}
}

// ask sends a frame with a process socket and as many copies of /dev/null as
// make n descriptors. Its header may say something else.
func (h *rawHost) ask(frame []byte, n int) *rawProgram {
	h.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(h.t, err)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(h.t, err)
	descriptors := []int{pair[1]}
	for range n - 1 {
		descriptors = append(descriptors, null)
	}
	h.send(h.control, frame, descriptors[:n]...)
	require.NoError(h.t, unix.Close(null))
	require.NoError(h.t, unix.Close(pair[1]))
	p := &rawProgram{h: h, socket: pair[0]}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[p.socket] = true
	return p
}

// run starts a program properly.
func (h *rawHost) runRaw() *rawProgram {
	h.t.Helper()
	p := h.ask(catSpawn().Encode(2), 2)
	f := h.next(p.socket)
	require.Equal(h.t, wire.TypeStarted, f.Type)
	started, err := wire.ParseStarted(f.payload)
	require.NoError(h.t, err)
	p.pid = int(started.PID)
	return p
}

// alive checks that a program lives, and that the shepherd answers for it.
func (p *rawProgram) alive() {
	p.h.t.Helper()
	p.h.send(p.socket, (&wire.Signal{Sequence: 77, Number: 0}).Encode())
	f := p.h.next(p.socket)
	require.Equal(p.h.t, wire.TypeAnswer, f.Type)
	answer, err := wire.ParseAnswer(f.payload)
	require.NoError(p.h.t, err)
	require.Equal(p.h.t, wire.Answer{Sequence: 77}, answer)
}

// A shepherd that meets a library of another version says which it is itself,
// and ends.
func TestHostOfAnotherVersion(t *testing.T) {
	for name, greet := range map[string]func(h *rawHost){
		"version":  func(h *rawHost) { h.greet(wire.Revision, version+"x") },
		"revision": func(h *rawHost) { h.greet(wire.Revision+1, version) },
		"nonsense": func(h *rawHost) { h.send(h.control, wire.Frame(wire.TypeHello, 0, nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newRawHost(t)
			// A library does not wait for the answer to its greeting.
			require.NoError(t, unix.Kill(h.shepherdPID(), unix.SIGSTOP))
			greet(h)
			p := h.ask(catSpawn().Encode(2), 2)
			require.NoError(t, unix.Kill(h.shepherdPID(), unix.SIGCONT))
			f := h.next(h.control)
			require.Equal(t, wire.TypeHello, f.Type)
			hello, err := wire.ParseHello(f.payload)
			require.NoError(t, err)
			require.Equal(t, &wire.Hello{Role: wire.RoleShepherd, Revision: wire.Revision, Version: version, PID: int32(h.shepherdPID())}, hello)
			require.Zero(t, h.next(h.control).Type)
			require.Zero(t, h.next(p.socket).Type, "nothing is run")
			h.awaitEnd(h.keeper)
		})
	}
}

// The whole way: a library of another version, and what its user is told.
func TestShepherdOfAnotherVersion(t *testing.T) {
	h := newHost(t)
	h.Runner = core.NewRunner("9.9.9", func(fd int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.open, fd)
		_ = unix.Close(fd)
	})
	h.spawn(command("true")).requireFailure(unix.ENOPKG, fmt.Sprintf(
		"%s: is version %s (protocol %d), the library is version 9.9.9 (protocol %d)", shepherdPath, version, wire.Revision, wire.Revision))
	h.awaitEnd(h.shepherds[0])
}

// Bytes that are no protocol end the shepherd as the host's death would: it
// can't know what the host wants.
func TestNonsenseOnControlSocket(t *testing.T) {
	garbage := []byte("GET / HTTP/1.1\r\n\r\n")
	for name, frame := range map[string][]byte{
		"garbage":            garbage,
		"another greeting":   (&wire.Hello{Role: wire.RoleHost, Revision: wire.Revision, Version: version}).Encode(0),
		"a process's frame":  (&wire.Signal{Number: 15}).Encode(),
		"a shepherd's frame": (&wire.Started{PID: 1}).Encode(),
		"half a frame":       catSpawn().Encode(2)[:20],
	} {
		t.Run(name, func(t *testing.T) {
			h := greetedHost(t)
			program := watch(t, h.runRaw().pid)
			h.send(h.control, frame)
			if name == "half a frame" {
				require.NoError(t, unix.Shutdown(h.control, unix.SHUT_WR))
			}
			awaitGone(t, program)
			h.awaitEnd(h.keeper)
		})
		if name == "half a frame" {
			continue
		}
		t.Run(name+" first", func(t *testing.T) {
			if name == "another greeting" {
				t.Skip("that is how it should be")
			}
			h := newRawHost(t)
			h.send(h.control, frame)
			require.Zero(t, h.next(h.control).Type)
			h.awaitEnd(h.keeper)
		})
	}
	t.Run("a spawn first", func(t *testing.T) {
		h := newRawHost(t)
		p := h.ask(catSpawn().Encode(2), 2)
		require.Zero(t, h.next(h.control).Type)
		require.Zero(t, h.next(p.socket).Type)
		h.awaitEnd(h.keeper)
	})
}

// A request that makes no sense is refused. It leaves nothing behind in the
// shepherd, and others are not affected.
func TestNonsenseSpawn(t *testing.T) {
	h := greetedHost(t)
	sibling := h.runRaw()
	before := files(t, h.shepherdPID())
	payload := catSpawn().Encode(2)[wire.HeaderSize:]
	for _, c := range []struct {
		name string
		put  []byte
		why  string
	}{
		{"nothing", nil, "the shepherd got a malformed frame: 0 bytes where 4 are wanted"},
		{"half of it", payload[:len(payload)-3], "the shepherd got a malformed frame: a list of 4 in 2 bytes"},
		{"a byte too many", append(slices.Clone(payload), 0), "the shepherd got a malformed frame: 1 bytes too many"},
	} {
		if c.name == "half of it" {
			c.why = "" // says where it noticed
		}
		frame := wire.Frame(wire.TypeSpawn, 2, func(b []byte) []byte { return append(b, c.put...) })
		p := h.ask(frame, 2)
		f := h.next(p.socket)
		require.Equal(t, wire.TypeFailed, f.Type, c.name)
		failed, err := wire.ParseFailed(f.payload)
		require.NoError(t, err)
		require.EqualValues(t, unix.EPROTO, failed.Errno)
		require.Contains(t, failed.Why, "the shepherd got a malformed frame: ")
		if c.why != "" {
			require.Equal(t, c.why, failed.Why)
		}
		require.Zero(t, h.next(p.socket).Type)
	}
	for _, change := range []func(s *wire.Spawn){
		func(s *wire.Spawn) { s.Files[0].Source = 2 },
		func(s *wire.Spawn) { s.Files[0].Source = 0 },
		func(s *wire.Spawn) { s.Files = s.Files[:2] },
		func(s *wire.Spawn) { s.Paths = nil },
		func(s *wire.Spawn) { s.Flags = 1 << 31 },
	} {
		s := catSpawn()
		change(s)
		p := h.ask(s.Encode(2), 2)
		require.Equal(t, wire.TypeFailed, h.next(p.socket).Type)
	}
	requireFiles(t, h.shepherdPID(), before)
	sibling.alive()
}

// More or fewer descriptors than a frame announces.
func TestWrongNumberOfDescriptors(t *testing.T) {
	h := greetedHost(t)
	sibling := h.runRaw()
	before := files(t, h.shepherdPID())
	for came := 1; came < 6; came++ {
		for said := 1; said < 6; said++ {
			p := h.ask(catSpawn().Encode(said), came)
			f := h.next(p.socket)
			if came == said && said >= 2 {
				require.Equal(t, wire.TypeStarted, f.Type)
				h.send(p.socket, (&wire.Stop{Reason: wire.ReasonOutput}).Encode())
				require.Equal(t, wire.TypeExited, h.next(p.socket).Type)
				continue
			}
			require.Equal(t, wire.TypeFailed, f.Type, "%d came, %d were announced", came, said)
			require.Zero(t, h.next(p.socket).Type)
		}
	}
	// Not even a process socket: nobody to tell.
	h.send(h.control, catSpawn().Encode(0))
	sibling.alive()
	h.send(h.control, catSpawn().Encode(2))
	require.Equal(t, wire.TypeFailed, h.next(h.control).Type)
	sibling.alive()
	requireFiles(t, h.shepherdPID(), before)
}

// A process socket that is none: the program does not stay.
func TestProcessSocketThatIsNone(t *testing.T) {
	h := greetedHost(t)
	sibling := h.runRaw()
	before := files(t, h.shepherdPID())
	for _, path := range []string{"/dev/null", "/proc/self/status", "/"} {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		h.send(h.control, catSpawn().Encode(2), fd, fd)
		require.NoError(t, unix.Close(fd))
	}
	sibling.alive()
	await(t, "the programs to be gone", func() bool { return len(programs(t, h.shepherdPID())) == 1 })
	requireFiles(t, h.shepherdPID(), before)
	sibling.alive()
}

// Bytes that are no protocol on a process socket end that program, and no
// other.
func TestNonsenseOnProcessSocket(t *testing.T) {
	h := greetedHost(t)
	sibling := h.runRaw()
	before := files(t, h.shepherdPID())
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(null)
	for name, frame := range map[string][]byte{
		"garbage":            []byte("garbage garbage garbage"),
		"a shepherd's frame": (&wire.Exited{}).Encode(),
		"a greeting":         (&wire.Hello{Role: wire.RoleHost, Revision: wire.Revision, Version: version}).Encode(0),
		"a spawn":            catSpawn().Encode(0),
		"a short signal":     wire.Frame(wire.TypeSignal, 0, func(b []byte) []byte { return append(b, 1, 2, 3) }),
		"a stop by timeout":  (&wire.Stop{Reason: wire.ReasonTimeout}).Encode(),
	} {
		p := h.runRaw()
		program := watch(t, p.pid)
		h.send(p.socket, frame, null, null)
		require.Zero(t, h.next(p.socket).Type, "%s: no more is said", name)
		awaitGone(t, program)
		sibling.alive()
	}
	requireFiles(t, h.shepherdPID(), before)

	// Signals that do not exist are answered.
	for _, number := range []int32{-1, 65, 1 << 30, -1 << 31} {
		h.send(sibling.socket, (&wire.Signal{Sequence: 5, Number: number}).Encode())
		answer, err := wire.ParseAnswer(h.next(sibling.socket).payload)
		require.NoError(t, err)
		require.Equal(t, wire.Answer{Sequence: 5, Errno: int32(unix.EINVAL)}, answer)
	}
	// Descriptors that a frame has no use for are closed.
	h.send(sibling.socket, (&wire.Signal{Sequence: 5}).Encode(), null, null)
	require.Equal(t, wire.TypeAnswer, h.next(sibling.socket).Type)
	requireFiles(t, h.shepherdPID(), before)
	// Frames in pieces, byte by byte.
	for _, b := range (&wire.Signal{Sequence: 6}).Encode() {
		h.send(sibling.socket, []byte{b})
	}
	require.Equal(t, wire.TypeAnswer, h.next(sibling.socket).Type)
	sibling.alive()
}

// A host that never reads its answers harms itself only.
func TestAnswersThatNobodyReads(t *testing.T) {
	h := greetedHost(t)
	sibling := h.runRaw()
	p := h.runRaw()
	program := watch(t, p.pid)
	for i := range uint32(5000) {
		h.send(p.socket, (&wire.Signal{Sequence: i}).Encode())
	}
	sibling.alive()
	// None is left out: after those that there was room for comes the end.
	var sequence uint32
	for f := h.next(p.socket); f.Type != 0; f = h.next(p.socket) {
		answer, err := wire.ParseAnswer(f.payload)
		require.NoError(t, err)
		require.Equal(t, wire.Answer{Sequence: sequence}, answer)
		sequence++
	}
	h.send(p.socket, (&wire.Stop{Reason: wire.ReasonOutput}).Encode())
	awaitGone(t, program)
	sibling.alive()
}

// A shepherd that is out of descriptors says so, for each program on its own,
// and goes on when there are some again.
func TestShepherdOutOfDescriptors(t *testing.T) {
	h := newHost(t)
	sibling := h.runCat(func(*core.Options) {})
	pid := h.shepherdPID()
	var saved unix.Rlimit
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &saved))
	before := files(t, pid)
	// With room for a few: the process socket comes, and others are missing.
	for room := range 4 {
		limit := 0 // below which just so many numbers are free
		for free := 0; free < room || before[limit] != ""; limit++ {
			if before[limit] == "" {
				free++
			}
		}
		require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: saved.Max}, nil))
		var all []*process
		for range 4 {
			all = append(all, h.spawn(command("true")))
		}
		for _, p := range all {
			p.requireFailure(unix.EMFILE, "the shepherd has no descriptors left")
		}
		sibling.write("still there\n")
		sibling.requireLine("still there")
		require.Zero(t, sibling.signal(0))
		require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &saved, nil))
		h.run(shell("exit 3")).requireEnd(3, -1, wire.ReasonOwn)
		requireFiles(t, pid, before)
	}
	require.Len(t, h.shepherds, 1)
}

// A terminal's or a service manager's signals are for the host to obey.
func TestShepherdSurvivesSignals(t *testing.T) {
	h := newHost(t)
	p := h.runCat(func(*core.Options) {})
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE, unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH} {
		for range 3 {
			require.NoError(t, h.shepherds[0].Process.Signal(sig))
			require.NoError(t, unix.Kill(h.shepherdPID(), sig))
		}
		q := h.run(shell("exit 3")) // while they arrive
		q.requireEnd(3, -1, wire.ReasonOwn)
	}
	p.write("still there\n")
	p.requireLine("still there")
	pid := h.runCat(func(*core.Options) {}).pid()
	require.Equal(t, "0000000000000000", status(t, pid, "SigIgn"))
	require.Len(t, h.shepherds, 1)
}

// Nobody but the library has a use for it, and it says so.
func TestByHand(t *testing.T) {
	run := func(extra ...*os.File) (string, string, error) {
		c := exec.CommandContext(t.Context(), self(t))
		c.Args = []string{"shepherd"}
		c.Env = environment
		c.ExtraFiles = extra
		out, complaint := newFile(t), newFile(t)
		defer out.Close()
		defer complaint.Close()
		c.Stdout, c.Stderr = out, complaint
		err := c.Run()
		return contents(t, out), contents(t, complaint), err
	}
	datagrams, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	for _, fd := range datagrams {
		defer unix.Close(fd)
	}
	copied, err := unix.FcntlInt(uintptr(datagrams[0]), unix.F_DUPFD_CLOEXEC, 3)
	require.NoError(t, err)
	datagram := os.NewFile(uintptr(copied), "datagram")
	defer datagram.Close()
	file := newFile(t)
	defer file.Close()
	for name, extra := range map[string][]*os.File{"nothing": nil, "a file": {file}, "a datagram socket": {datagram}} {
		out, complaint, err := run(extra...)
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, name)
		require.Equal(t, 2, exit.ExitCode())
		require.Empty(t, out)
		require.Equal(t, "netrunner-shepherd: descriptor 3 is not a control socket\n"+
			"This program is started by libnetrunner; it is of no use by itself.\n", complaint)
	}
}

func TestVersionFlag(t *testing.T) {
	c := exec.CommandContext(t.Context(), self(t))
	c.Args = []string{"shepherd", "--version"}
	c.Env = environment
	out, err := c.Output()
	require.NoError(t, err)
	require.Equal(t, "netrunner-shepherd "+version+"\n", string(out))
}

func TestParseUmask(t *testing.T) {
	for text, want := range map[string]int{
		"Name:\tx\nUmask:\t0022\nState:\tR\n":     0o22,
		"Name:\tx\nUmask:\t0777\n":                0o777,
		"Name:\tx\nUmask:\t0000\n":                0,
		"Name:\tUmask:\t0001\nUmask:\t0002\n":     2,
		"Name:\tx\nState:\tR\n":                   -1,
		"Name:\tx\nUmask:\tnonsense\nState:\tR\n": -1,
		"": -1,
	} {
		require.Equal(t, want, parseUmask([]byte(text)), "%q", text)
	}
}

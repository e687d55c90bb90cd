// SPDX-License-Identifier: Apache-2.0

package core

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// In the tests of this package the test itself plays the shepherd: it holds the
// other end of the control socket, and says what it wants. As both sides are in
// one process and no call blocks, nothing here waits.

const (
	testVersion  = "1.0.0-test"
	shepherdPath = "/some/where/netrunner-shepherd"
)

// stage is a Runner and what it has closed.
type stage struct {
	t      *testing.T
	runner *Runner
	closed map[int]int // how often, by number
}

func newStage(t *testing.T) *stage {
	t.Helper()
	checkDescriptors(t)
	s := &stage{t: t, closed: make(map[int]int)}
	s.runner = NewRunner(testVersion, func(fd int) {
		s.closed[fd]++
		require.NoError(t, unix.Close(fd), "descriptor %d is closed once", fd)
	})
	t.Cleanup(func() {
		// A Runner is for the life of its process and has no end of its own.
		for _, shepherd := range s.runner.shepherds {
			shepherd.closeControl()
			shepherd.dropPIDFD()
		}
	})
	return s
}

// prepare is Prepare, with the caller's descriptors closed at the test's end.
func (s *stage) prepare(o Options) *Process {
	s.t.Helper()
	if o.Argv == nil {
		o.Argv = []string{"prog"}
	}
	p, err := s.runner.Prepare(&o, shepherdPath)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { discard(p) })
	return p
}

func (s *stage) launch(p *Process) {
	s.t.Helper()
	need, err := p.Launch()
	require.NoError(s.t, err)
	require.Equal(s.t, Need{}, need)
}

// run prepares and launches.
func (s *stage) run(o Options) *Process {
	s.t.Helper()
	p := s.prepare(o)
	s.launch(p)
	return p
}

// message is a frame that a fake has received.
type message struct {
	wire.Header
	payload     []byte
	descriptors []int
}

// talker is the shepherd's end of a control or of a process socket.
type talker struct {
	t        *testing.T
	socket   int
	reader   wire.Reader
	messages []message
}

func newTalker(t *testing.T, socket int) *talker {
	k := &talker{t: t, socket: socket}
	t.Cleanup(func() {
		k.reader.Close()
		for _, m := range k.messages {
			closeFiles(m.descriptors)
		}
		k.end()
	})
	return k
}

func closeFiles(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func (k *talker) end() {
	if k.socket >= 0 {
		require.NoError(k.t, unix.Close(k.socket))
		k.socket = -1
	}
}

func (k *talker) say(frame []byte, descriptors ...int) {
	k.t.Helper()
	n, err := wire.Send(k.socket, frame, descriptors)
	require.NoError(k.t, err)
	require.Equal(k.t, len(frame), n)
}

// listen receives all that is there, and returns why there is no more.
func (k *talker) listen() error {
	scratch := make([]byte, 64<<10)
	for {
		err := k.reader.Read(k.socket, scratch, func(h wire.Header, payload []byte, descriptors []int) error {
			k.messages = append(k.messages, message{h, append([]byte(nil), payload...), descriptors})
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// next is the next message, which must be there.
func (k *talker) next(kind wire.Type) message {
	k.t.Helper()
	if len(k.messages) == 0 {
		_ = k.listen()
	}
	require.NotEmpty(k.t, k.messages, "the host has said something")
	m := k.messages[0]
	k.messages = k.messages[1:]
	require.Equal(k.t, kind, m.Type)
	require.Len(k.t, m.descriptors, m.Descriptors)
	k.t.Cleanup(func() { closeFiles(m.descriptors) })
	return m
}

// nothing checks that no message is left.
func (k *talker) nothing() {
	k.t.Helper()
	require.Equal(k.t, unix.EAGAIN, k.listen())
	require.Empty(k.t, k.messages)
}

// fakeShepherd is the shepherd's end of a control socket.
type fakeShepherd struct {
	*talker
	hostEnd int
}

// adopt introduces a fake to the Runner, as one that was just started.
func (s *stage) adopt(pidfd int) *fakeShepherd {
	s.t.Helper()
	return s.introduce(func(control int) error { return s.runner.Adopt(shepherdPath, control, pidfd) })
}

func (s *stage) introduce(adopt func(control int) error) *fakeShepherd {
	s.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(s.t, err)
	require.NoError(s.t, adopt(pair[0]))
	return &fakeShepherd{newTalker(s.t, pair[1]), pair[0]}
}

// greeted is adopt, after which both sides know each other.
func (s *stage) greeted() *fakeShepherd {
	s.t.Helper()
	f := s.adopt(-1)
	f.next(wire.TypeHello)
	f.greet()
	return f
}

func (f *fakeShepherd) greet() {
	f.t.Helper()
	f.say((&wire.Hello{Role: wire.RoleShepherd, Revision: wire.Revision, Version: testVersion, PID: 1}).Encode(0))
}

// fakeProgram is the shepherd's end of a process socket.
type fakeProgram struct {
	*talker
	message
	request *wire.SpawnRequest
}

// takes receives a Spawn.
func (f *fakeShepherd) takes() *fakeProgram {
	f.t.Helper()
	m := f.next(wire.TypeSpawn)
	request, err := wire.ParseSpawn(m.payload, len(m.descriptors))
	require.NoError(f.t, err)
	p := &fakeProgram{newTalker(f.t, m.descriptors[0]), m, request}
	p.descriptors[0] = -1 // the talker closes it
	return p
}

// exited is a whole frame.
func exited(code int32) []byte {
	return (&wire.Exited{Code: code, Signal: -1, Time: 1}).Encode()
}

func started(pid int32) []byte { return (&wire.Started{PID: pid}).Encode() }

// readable tells whether a descriptor is, without waiting.
func readable(t *testing.T, fd int) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	require.NoError(t, err)
	return n > 0
}

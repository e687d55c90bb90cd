// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// chunk is what one sendmsg(2) carries: bytes, and descriptors from a pool.
type chunk struct {
	bytes       []byte
	first, many int // of the pool
}

// chunks takes fuzz data apart: one byte for the descriptors, one for the
// length, and the bytes.
func chunks(data []byte) (all []chunk) {
	for len(data) >= 2 {
		c := chunk{first: int(data[0] >> 3), many: int(data[0] & 7)}
		if data[0] == math.MaxUint8 {
			c.many = wire.MaxDescriptors
		}
		end := min(2+int(data[1]), len(data))
		c.bytes = data[2:end]
		data = data[end:]
		all = append(all, c)
	}
	return all
}

// fuzzData is data that chunks takes apart to pieces of a stream of frames.
// descriptors is said to come with each piece, see chunks.
func fuzzData(size int, descriptors byte, frames ...[]byte) (data []byte) {
	var stream []byte
	for _, frame := range frames {
		stream = append(stream, frame...)
	}
	for len(stream) > 0 {
		n := min(size, len(stream), math.MaxUint8)
		data = append(data, descriptors, byte(n))
		data = append(data, stream[:n]...)
		stream = stream[n:]
	}
	return data
}

// header is that of a frame, true or not.
func header(length uint32, kind wire.Type, descriptors uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, length)
	return binary.LittleEndian.AppendUint16(append(b, byte(kind), 0), descriptors)
}

// pool is descriptors to send, of different kinds.
type pool []int

const (
	poolPIDFD = iota // of this process
	poolNull
	poolPipe // that never ends
	poolFile
	poolSocket
	poolEpoll
	poolSize
	poolRest = 2 // the other ends
)

func newPool(t *testing.T) pool {
	t.Helper()
	p := make(pool, poolSize, poolSize+poolRest)
	open := func(index, fd int, err error) {
		require.NoError(t, err)
		p[index] = fd
	}
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	open(poolPIDFD, fd, err)
	fd, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	open(poolNull, fd, err)
	fd, err = unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC)
	open(poolFile, fd, err)
	fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	open(poolEpoll, fd, err)
	var ends [2]int
	require.NoError(t, unix.Pipe2(ends[:], unix.O_CLOEXEC))
	p[poolPipe], p = ends[0], append(p, ends[1])
	ends, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	p[poolSocket], p = ends[0], append(p, ends[1])
	return p
}

func (p pool) close() {
	for _, fd := range p {
		_ = unix.Close(fd)
	}
}

// take returns many descriptors, the same ones again if need be.
func (p pool) take(first, many int) []int {
	taken := make([]int, many)
	for i := range taken {
		taken[i] = p[(first+i)%poolSize]
	}
	return taken
}

// send sends all of it. It returns false when nobody reads any more.
func send(t *testing.T, fd int, bytes []byte, descriptors []int) bool {
	t.Helper()
	for len(bytes) > 0 {
		n, err := wire.Send(fd, bytes, descriptors)
		switch {
		case err == unix.EPIPE || err == unix.ECONNRESET:
			return false
		case err == unix.EAGAIN || err == unix.ETOOMANYREFS:
			require.True(t, pollFor(fd, unix.POLLOUT, hang), "the shepherd does not read")
			continue
		}
		require.NoError(t, err)
		bytes, descriptors = bytes[n:], nil
	}
	return true
}

// readFrames reads frames from a shepherd until enough says so, or to their end.
// What a shepherd says is well-formed.
func readFrames(t *testing.T, fd int, enough func(frames []rawFrame) bool) (frames []rawFrame) {
	t.Helper()
	var reader wire.Reader
	scratch := make([]byte, receiveSize)
	for !enough(frames) {
		require.True(t, pollFor(fd, unix.POLLIN, hang), "the shepherd hangs")
		err := reader.Read(fd, scratch, func(h wire.Header, payload []byte, descriptors []int) error {
			require.Empty(t, descriptors)
			frames = append(frames, rawFrame{h, slices.Clone(payload)})
			return nil
		})
		if err == io.EOF || err == unix.ECONNRESET {
			break
		}
		if err != unix.EAGAIN {
			require.NoError(t, err)
		}
	}
	reader.Close()
	return frames
}

func never([]rawFrame) bool { return false }
func one(f []rawFrame) bool { return len(f) > 0 }

// controlSeeds are what a control socket may get: greetings, and what follows
// them. The first of each is as it should be.
func controlSeeds() (greetings, requests [][]byte) {
	hello := (&wire.Hello{Role: wire.RoleHost, Revision: wire.Revision, Version: version, PID: int32(unix.Getpid())}).Encode
	stranger := wire.Hello{Role: wire.RoleShepherd, Revision: 9, Version: "9.9.9", PID: -1}
	spawn := nowhere().Encode
	greetings = [][]byte{
		fuzzData(255, 1, hello(1)),
		fuzzData(255, 0, hello(0)),
		fuzzData(5, 1, hello(1)),
		fuzzData(255, 3, hello(3)),               // which is one of them?
		fuzzData(255, 1|poolNull<<3, hello(1)),   // can't be watched
		fuzzData(255, 1|poolSocket<<3, hello(1)), // is no process
		fuzzData(255, 3, hello(3)[:len(hello(3))-1]),
		fuzzData(255, 0, stranger.Encode(0)),
		fuzzData(255, 7, []byte("GET / HTTP/1.1\r\n\r\n")),
		fuzzData(255, 1, spawn(1)),
		{},
	}
	requests = [][]byte{
		append(fuzzData(255, 4, spawn(4)), fuzzData(255, 4, spawn(4))...),
		fuzzData(255, 1, spawn(1)),
		fuzzData(5, 1, spawn(1), spawn(1)),
		fuzzData(40, 0, spawn(0)),
		fuzzData(255, 2, spawn(200)),
		fuzzData(255, 255, spawn(250)),
		fuzzData(90, 255, spawn(250)),   // too many with its pieces
		fuzzData(255, 4, spawn(4)[:50]), // the rest never comes
		fuzzData(255, 1, hello(1)),
		fuzzData(255, 0, header(math.MaxUint32, wire.TypeSpawn, 0)),
		fuzzData(255, 1, header(wire.MaxPayload, wire.TypeSpawn, 250)),
		fuzzData(255, 1, header(0, wire.TypeSpawn, 1)),
		fuzzData(255, 1, header(0, wire.TypeStop, 1)),
		fuzzData(255, 1, header(0, 0, math.MaxUint16)),
		{},
	}
	return greetings, requests
}

// nowhere is a Spawn of what does not exist.
func nowhere() *wire.Spawn {
	s := catSpawn()
	s.Paths = []string{"/nonexistent/nowhere"}
	return s
}

// Whatever a control socket gets, in this process: nothing is forked, so any
// request will do. What is accepted can be written down as system calls, and
// no descriptor is left when the host has gone.
func FuzzControlFrames(f *testing.F) {
	greetings, requests := controlSeeds()
	for _, greeting := range greetings {
		f.Add(greeting, requests[0])
	}
	for _, request := range requests {
		f.Add(greetings[0], request)
	}
	f.Fuzz(func(t *testing.T, greeting, requests []byte) {
		before := descriptors(t)
		p := newPool(t)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		s, err := newShepherd(pair[1])
		require.NoError(t, err)
		for _, c := range append(chunks(greeting), chunks(requests)...) {
			if !send(t, pair[0], c.bytes, p.take(c.first, c.many)) {
				break
			}
			for !s.hostGone && pollFor(s.control, unix.POLLIN, 0) {
				s.serveControl()
			}
		}
		for _, r := range s.queue {
			var script script
			script.write(r.spawn, r.descriptors, -1, s.nextMark)
			require.Equal(t, uintptr(unix.SYS_EXECVE), script.rows[len(script.rows)-1].trap)
		}
		require.NoError(t, unix.Shutdown(pair[0], unix.SHUT_WR))
		for !s.hostGone {
			s.serveControl()
		}
		for _, frame := range readFrames(t, pair[0], never) {
			require.Contains(t, []wire.Type{wire.TypeHello, wire.TypeFailed}, frame.Type)
		}
		for _, fd := range []int{pair[0], s.epoll, s.ends, s.strangersTimer, s.wakeup, s.timer, s.adopted, s.loadavg, s.status} {
			_ = unix.Close(fd)
		}
		p.close()
		require.Equal(t, before, descriptors(t))
	})
}

// Whatever a control socket gets: its shepherd ends with it, without a word, and
// so does the program that it runs.
func FuzzControl(f *testing.F) {
	_, requests := controlSeeds()
	for _, request := range requests {
		f.Add(request)
	}
	f.Fuzz(func(t *testing.T, requests []byte) {
		h := greetedHost(t)
		p := newPool(t)
		defer p.close()
		program := watch(t, h.runRaw().pid)
		for _, c := range chunks(requests) {
			if !send(t, h.control, c.bytes, p.take(c.first, c.many)) {
				break
			}
		}
		require.NoError(t, unix.Shutdown(h.control, unix.SHUT_RDWR))
		h.awaitEnd(h.keeper)
		awaitGone(t, program)
	})
}

func processSocket(t *testing.T) (ours, theirs int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	return pair[0], pair[1]
}

// started is the process id of a program that must have been started.
func started(t *testing.T, socket int) int {
	t.Helper()
	frames := readFrames(t, socket, one)
	require.NotEmpty(t, frames)
	require.Equal(t, wire.TypeStarted, frames[0].Type)
	s, err := wire.ParseStarted(frames[0].payload)
	require.NoError(t, err)
	return int(s.PID)
}

// target is a shepherd that lasts for many rounds of a fuzz target, with a
// program that nothing of these rounds may disturb.
type target struct {
	*host
	bystander *process
	files     map[int]string // of the shepherd, between two rounds
}

func newTarget(f *testing.F) *target {
	f.Helper()
	g := &target{host: newHost(f)}
	g.bystander = g.run(command("cat"))
	g.files = files(f, g.shepherdPID())
	return g
}

// on makes all checks fail t.
func (g *target) on(t *testing.T) {
	t.Helper()
	saved := g.host.t
	g.host.t, g.bystander.t = t, t
	t.Cleanup(func() { g.host.t, g.bystander.t = saved, saved })
}

func (g *target) control() int { return g.shepherds[0].control }

// requireUndisturbed checks that nothing has come of a round.
func (g *target) requireUndisturbed(t *testing.T) {
	t.Helper()
	g.bystander.write("still here\n")
	g.bystander.requireLine("still here")
	require.Zero(t, g.bystander.signal(0))
	requireFiles(t, g.shepherdPID(), g.files)
	require.Len(t, g.shepherds, 1)
}

// Whatever a process socket gets: the program ends with it, what the shepherd
// answered belongs to what it was asked, and nobody else notices.
func FuzzProgram(f *testing.F) {
	signal := func(sequence uint32, number int32) []byte {
		return (&wire.Signal{Sequence: sequence, Number: number}).Encode()
	}
	stop := func(reason wire.Reason) []byte { return (&wire.Stop{Reason: reason}).Encode() }
	shepherds := wire.Started{PID: 1}
	for _, data := range [][]byte{
		fuzzData(255, 0, signal(1, 0), signal(2, int32(unix.SIGWINCH)), stop(wire.ReasonKilled)),
		fuzzData(3, 0, signal(1, int32(unix.SIGSTOP)), signal(2, 0), wire.EncodeRelease()),
		fuzzData(16, 2, signal(1, 0), signal(2, -1), signal(3, math.MaxInt32), signal(4, math.MinInt32), signal(5, 65)),
		fuzzData(255, 255, signal(1, int32(unix.SIGKILL)), signal(2, 0), stop(wire.ReasonOutput)),
		fuzzData(255, 1, stop(wire.ReasonOOM)),
		fuzzData(255, 0, stop(math.MaxUint32)),
		fuzzData(255, 0, wire.EncodeRelease(), signal(1, 0), wire.EncodeRelease()),
		fuzzData(255, 4, wire.EncodeRelease(), signal(1, 0)[:15]), // the rest never comes
		fuzzData(255, 0, signal(1, 0)[:15]),
		fuzzData(255, 1, header(math.MaxUint32, wire.TypeSignal, 0)),
		fuzzData(255, 1, header(wire.MaxPayload, wire.TypeStop, 3)),
		fuzzData(255, 0, header(0, wire.TypeSignal, 0)),
		fuzzData(255, 0, header(0, 0, 0)),
		fuzzData(255, 4, shepherds.Encode()),
		fuzzData(255, 4, nowhere().Encode(4)),
		fuzzData(255, 7, []byte("GET / HTTP/1.1\r\n\r\n")),
	} {
		f.Add(data, false)
		f.Add(data, true)
	}
	g := newTarget(f)
	f.Fuzz(func(t *testing.T, data []byte, lingers bool) {
		g.on(t)
		p := newPool(t)
		defer p.close()
		spawn := catSpawn()
		if lingers {
			spawn.Flags |= wire.SpawnLinger
		}
		ours, theirs := processSocket(t)
		defer unix.Close(ours)
		require.True(t, send(t, g.control(), spawn.Encode(2), []int{theirs, p[poolNull]}))
		require.NoError(t, unix.Close(theirs))
		program := watch(t, started(t, ours))

		var sent []byte
		for _, c := range chunks(data) {
			sent = append(sent, c.bytes...)
			if !send(t, ours, c.bytes, p.take(c.first, c.many)) {
				break
			}
		}
		_ = unix.Shutdown(ours, unix.SHUT_WR) // an error when it has ended already
		asked := sequences(sent)
		var answered []uint32
		for i, frame := range readFrames(t, ours, never) {
			switch frame.Type {
			case wire.TypeAnswer:
				answer, err := wire.ParseAnswer(frame.payload)
				require.NoError(t, err)
				answered = append(answered, answer.Sequence)
				require.Equal(t, i+1, len(answered), "an answer after the end")
			case wire.TypeExited:
				_, err := wire.ParseExited(frame.payload)
				require.NoError(t, err)
			default:
				require.Fail(t, "unexpected frame", "%+v", frame)
			}
		}
		require.LessOrEqual(t, len(answered), len(asked))
		require.Equal(t, append([]uint32{}, asked[:len(answered)]...), append([]uint32{}, answered...))
		awaitGone(t, program)
		g.requireUndisturbed(t)
	})
}

// sequences are those of the Signals at the front of a stream of frames.
func sequences(stream []byte) (all []uint32) {
	for {
		h, err := wire.ParseHeader(stream)
		if err != nil || len(stream) < wire.HeaderSize+h.Length {
			return all
		}
		payload := stream[wire.HeaderSize:][:h.Length]
		stream = stream[wire.HeaderSize+h.Length:]
		switch h.Type {
		case wire.TypeSignal:
			signal, err := wire.ParseSignal(payload)
			if err != nil {
				return all
			}
			all = append(all, signal.Sequence)
		case wire.TypeStop:
		default:
			return all
		}
	}
}

// Whatever a Spawn says in a frame that is whole: it is refused, fails, or
// starts a program, and the host is told which. Nobody else notices.
//
// The only program there is to start is cat, which does no harm; the rest is up
// to the fuzzer: limits, ids, flags, descriptors. patches are changes of single
// bytes of the payload.
func FuzzSpawn(f *testing.F) {
	standard := []byte{1, 0, 1, 1, 1, 2}
	f.Add(uint32(0), int64(0), int64(0), uint32(0), int32(0), standard, "", uint16(0), uint8(1), uint8(2), []byte{})
	f.Add(uint32(wire.SpawnSession|wire.SpawnLinger|wire.SpawnNoNewPrivs), int64(1), int64(wire.KillNow), uint32(7), int32(9),
		standard, "A=b", uint16(1), uint8(3), uint8(4), []byte{})
	f.Add(uint32(wire.SpawnTerminal), int64(0), int64(0), uint32(0), int32(1), standard, "", uint16(0), uint8(1), uint8(2), []byte{})
	f.Add(uint32(wire.SpawnUID|wire.SpawnGID|wire.SpawnGroups|wire.SpawnUmask|wire.SpawnNice), int64(math.MaxInt64), int64(math.MaxInt64),
		uint32(65534), int32(-20), standard, "/", uint16(1), uint8(5), uint8(6), []byte{})
	f.Add(uint32(wire.SpawnPIDNamespace), int64(0), int64(0), uint32(0), int32(7), standard, "", uint16(0), uint8(2), uint8(3), []byte{})
	f.Add(uint32(wire.SpawnCwdDescriptor), int64(0), int64(0), uint32(0), int32(0), []byte{2, 0, 2, 1, 2, 2}, "", uint16(0), uint8(2), uint8(3), []byte{})
	f.Add(uint32(wire.SpawnCwdDescriptor), int64(0), int64(0), uint32(0), int32(0), standard, "", uint16(0), uint8(0), uint8(1), []byte{})
	f.Add(uint32(0), int64(-1), int64(-2), uint32(0), int32(0), standard, "", uint16(0), uint8(1), uint8(2), []byte{})
	f.Add(uint32(0), int64(0), int64(0), uint32(math.MaxUint32), int32(math.MinInt32), standard, "\x00", uint16(2), uint8(1), uint8(2), []byte{})
	f.Add(uint32(0), int64(0), int64(0), uint32(0), int32(0), []byte{1, 0, 1, 1, 1, 2, 3, 250, 2, 100, 1, 3}, "x", uint16(1), uint8(249), uint8(250), []byte{})
	f.Add(uint32(0), int64(0), int64(0), uint32(0), int32(0), standard, "", uint16(0), uint8(9), uint8(2), []byte{})
	f.Add(uint32(0), int64(0), int64(0), uint32(0), int32(0), standard, "", uint16(0), uint8(0), uint8(0), []byte{})
	f.Add(uint32(math.MaxUint32), int64(0), int64(0), uint32(0), int32(0), []byte{}, "", uint16(0), uint8(1), uint8(2), []byte{})
	f.Add(uint32(0), int64(0), int64(0), uint32(0), int32(0), standard, "", uint16(0), uint8(1), uint8(2), []byte{40, 0, 255, 44, 0, 255})
	// What is said about a directory with such a name does not fit.
	f.Add(uint32(0), int64(0), int64(0), uint32(0), int32(0), standard, "/long/names", uint16(math.MaxUint16), uint8(1), uint8(2), []byte{})
	g := newTarget(f)
	f.Fuzz(func(t *testing.T, flags uint32, timeout, killTimeout int64, id uint32, number int32, filePairs []byte,
		text string, repeat uint16, attached, declared uint8, patches []byte) {
		g.on(t)
		p := newPool(t)
		defer p.close()
		ours, theirs := processSocket(t)
		defer unix.Close(ours)
		fds := append([]int{theirs}, p.take(poolNull, int(attached)%wire.MaxDescriptors)...)
		frame := fuzzedSpawn(flags, timeout, killTimeout, id, number, filePairs, text, int(repeat)).
			Encode(min(int(declared), wire.MaxDescriptors))
		payload := frame[wire.HeaderSize:]
		for ; len(patches) >= 3; patches = patches[3:] {
			payload[int(binary.LittleEndian.Uint16(patches))%len(payload)] = patches[2]
		}
		require.True(t, send(t, g.control(), frame, fds))
		require.NoError(t, unix.Close(theirs))

		frames := readFrames(t, ours, one)
		require.NotEmpty(t, frames, "the host is not told what became of it")
		_, malformed := wire.ParseSpawn(payload, len(fds))
		switch frames[0].Type {
		case wire.TypeStarted:
			require.NoError(t, malformed)
			first, err := wire.ParseStarted(frames[0].payload)
			require.NoError(t, err)
			program := watch(t, int(first.PID))
			require.NoError(t, unix.Shutdown(ours, unix.SHUT_RDWR))
			awaitGone(t, program)
		case wire.TypeFailed:
			failed, err := wire.ParseFailed(frames[0].payload)
			require.NoError(t, err)
			require.NotEmpty(t, failed.Why)
			switch {
			case len(fds) != min(int(declared), wire.MaxDescriptors):
				require.Equal(t, unix.EMFILE, unix.Errno(failed.Errno))
			case errors.Is(malformed, wire.ErrMalformed):
				require.Equal(t, unix.EPROTO, unix.Errno(failed.Errno))
			}
		default:
			require.Fail(t, "unexpected frame", "%+v", frames[0])
		}
		g.requireUndisturbed(t)
	})
}

func fuzzedSpawn(flags uint32, timeout, killTimeout int64, id uint32, number int32, filePairs []byte, text string, repeat int) *wire.Spawn {
	s := &wire.Spawn{
		Setup: wire.Setup{
			Flags: wire.SpawnFlags(flags), Timeout: timeout, KillTimeout: killTimeout,
			UID: id, GID: id, Umask: id, Nice: number, Terminal: number, Groups: []uint32{id},
			Rlimits: []wire.Rlimit{{Resource: number, Soft: uint64(id), Hard: uint64(id)}},
		},
		Program: text, Paths: []string{"/nonexistent/cat", "/bin/cat"}, Argv: []string{"cat"}, Env: []string{text},
	}
	if number == 0 {
		s.Rlimits = nil // or nothing could ever be started
	}
	for ; len(filePairs) >= 2; filePairs = filePairs[2:] {
		s.Files = append(s.Files, wire.File{Source: int32(int8(filePairs[0])), Target: int32(int8(filePairs[1]))})
	}
	if len(text) > 0 {
		s.Cwd = strings.Repeat(text, min(repeat, 1<<20/len(text)))
	}
	return s
}

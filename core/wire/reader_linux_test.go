// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// link is a socket pair with a Reader at one end, and a record of what the
// Reader has handed on.
type link struct {
	t        testing.TB
	to, from int
	reader   Reader
	frames   []received
}

// received is a frame as a Handler saw it. Files are recognised by their inode,
// whatever number they have.
type received struct {
	Header
	payload string
	files   []uint64
}

func newLink(t testing.TB) *link {
	t.Helper()
	before := openDescriptors(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	l := &link{t: t, to: pair[0], from: pair[1]}
	t.Cleanup(func() {
		l.reader.Close()
		l.end()
		_ = unix.Close(l.from)
		require.Equal(t, before, openDescriptors(t), "descriptors are left open")
	})
	return l
}

// end closes the sending side.
func (l *link) end() {
	if l.to >= 0 {
		require.NoError(l.t, unix.Close(l.to))
		l.to = -1
	}
}

func (l *link) send(b []byte, descriptors ...int) {
	l.t.Helper()
	n, err := Send(l.to, b, descriptors)
	require.NoError(l.t, err)
	require.Equal(l.t, len(b), n)
}

// sendOrRead makes room where the socket is full, as it is of many small pieces.
func (l *link) sendOrRead(b []byte, descriptors ...int) {
	l.t.Helper()
	n, err := Send(l.to, b, descriptors)
	for err == unix.EAGAIN {
		require.NoError(l.t, l.read(1<<10))
		n, err = Send(l.to, b, descriptors)
	}
	require.NoError(l.t, err)
	require.Equal(l.t, len(b), n)
}

func (l *link) handle(h Header, payload []byte, descriptors []int) error {
	got := received{Header: h, payload: string(payload)}
	for _, fd := range descriptors {
		got.files = append(got.files, inode(l.t, fd))
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(l.t, err)
		require.Equal(l.t, unix.FD_CLOEXEC, flags, "what comes is close-on-exec")
		require.NoError(l.t, unix.Close(fd))
	}
	l.frames = append(l.frames, got)
	return nil
}

func (l *link) read(scratch int) error {
	return l.reader.Read(l.from, make([]byte, scratch), l.handle)
}

// drain reads until there is nothing more, or the end.
func (l *link) drain(scratch int) error {
	for {
		if err := l.read(scratch); err != nil {
			return err
		}
	}
}

// take returns the frames that have been handed on so far.
func (l *link) take() []received {
	frames := l.frames
	l.frames = nil
	return frames
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func inode(t testing.TB, fd int) uint64 {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &stat))
	return stat.Ino
}

// newFiles opens n files that inode tells apart.
func newFiles(t testing.TB, n int) (fds []int, inodes []uint64) {
	t.Helper()
	for range n {
		fd, err := unix.MemfdCreate("file", unix.MFD_CLOEXEC)
		require.NoError(t, err)
		fds = append(fds, fd)
		inodes = append(inodes, inode(t, fd))
	}
	t.Cleanup(func() { closeAll(fds) })
	return fds, inodes
}

func frame(kind Type, descriptors int, payload string) []byte {
	return Frame(kind, descriptors, func(b []byte) []byte { return append(b, payload...) })
}

func want(kind Type, descriptors int, payload string, files ...uint64) received {
	return received{Header{len(payload), kind, descriptors}, payload, files}
}

// Three frames, with and without descriptors, cut into two messages at every
// byte: what comes out does not depend on where.
func TestReaderSplitAtEveryByte(t *testing.T) {
	fds, files := newFiles(t, 3)
	type part struct {
		frame []byte
		fds   []int
	}
	parts := []part{
		{frame(TypeSpawn, 2, "first"), fds[:2]},
		{frame(TypeRelease, 0, ""), nil},
		{frame(TypeHello, 1, "third"), fds[2:]},
	}
	wanted := []received{
		want(TypeSpawn, 2, "first", files[:2]...),
		want(TypeRelease, 0, ""),
		want(TypeHello, 1, "third", files[2:]...),
	}
	for cut := range parts {
		for at := 1; at < len(parts[cut].frame); at++ {
			for _, pause := range []bool{false, true} { // between the two messages
				l := newLink(t)
				for i, p := range parts {
					if i != cut {
						l.send(p.frame, p.fds...)
						continue
					}
					l.send(p.frame[:at], p.fds...)
					if pause {
						require.Equal(t, unix.EAGAIN, l.drain(64))
						require.Len(t, l.frames, cut, "a part of a frame is not a frame")
					}
					l.send(p.frame[at:])
				}
				require.Equal(t, unix.EAGAIN, l.drain(64))
				require.Equal(t, wanted, l.frames, "frame %d cut at byte %d", cut, at)
				l.end()
				require.Equal(t, io.EOF, l.drain(64))
			}
		}
	}
}

// The same frames received a few bytes at a time.
func TestReaderSmallScratch(t *testing.T) {
	fds, files := newFiles(t, 2)
	for scratch := 1; scratch < 40; scratch++ {
		l := newLink(t)
		l.send(frame(TypeStarted, 0, "one"))
		l.send(frame(TypeSpawn, 1, "two"), fds[0])
		l.send(frame(TypeSpawn, 1, ""), fds[1])
		l.send(frame(TypeExited, 0, "three"))
		l.end()
		require.Equal(t, io.EOF, l.drain(scratch))
		require.Equal(t, []received{
			want(TypeStarted, 0, "one"), want(TypeSpawn, 1, "two", files[0]),
			want(TypeSpawn, 1, "", files[1]), want(TypeExited, 0, "three"),
		}, l.frames, "%d bytes at a time", scratch)
	}
}

func TestReaderSeveralFramesInOneRead(t *testing.T) {
	l := newLink(t)
	var all []byte
	var wanted []received
	for i := range 20 {
		payload := fmt.Sprint("frame ", i)
		all = append(all, frame(TypeAnswer, 0, payload)...)
		wanted = append(wanted, want(TypeAnswer, 0, payload))
	}
	l.send(all)
	require.NoError(t, l.read(1<<10))
	require.Equal(t, wanted, l.frames)
	require.Equal(t, unix.EAGAIN, l.read(1<<10))
}

// The kernel puts bytes that came without descriptors and bytes that came with
// some into one read, the latter last. Each descriptor belongs to the frame
// that it was sent with nevertheless.
func TestReaderAttributesDescriptors(t *testing.T) {
	fds, files := newFiles(t, 3)
	for _, c := range []struct {
		name   string
		send   func(l *link)
		wanted []received
	}{
		{"a frame without before one with", func(l *link) {
			l.send(frame(TypeStop, 0, "without"))
			l.send(frame(TypeSpawn, 1, "with"), fds[0])
		}, []received{want(TypeStop, 0, "without"), want(TypeSpawn, 1, "with", files[0])}},
		{"a frame with before one without", func(l *link) {
			l.send(frame(TypeSpawn, 1, "with"), fds[0])
			l.send(frame(TypeStop, 0, "without"))
		}, []received{want(TypeSpawn, 1, "with", files[0]), want(TypeStop, 0, "without")}},
		{"the rest of one with before another one with", func(l *link) {
			f := frame(TypeSpawn, 2, "in two parts")
			l.send(f[:12], fds[0], fds[1])
			l.send(f[12:])
			l.send(frame(TypeSpawn, 1, "whole"), fds[2])
		}, []received{want(TypeSpawn, 2, "in two parts", files[0], files[1]), want(TypeSpawn, 1, "whole", files[2])}},
		{"one that begins with the rest of another", func(l *link) {
			// As after a send for which the socket had not room enough, twice.
			first, second := frame(TypeSpawn, 1, "first"), frame(TypeSpawn, 1, "second")
			l.send(first[:1], fds[0])
			l.send(first[1:])
			l.send(second[:1], fds[1])
			l.send(second[1:])
		}, []received{want(TypeSpawn, 1, "first", files[0]), want(TypeSpawn, 1, "second", files[1])}},
		{"payload in pieces", func(l *link) {
			f := frame(TypeSpawn, 3, "0123456789")
			l.send(f[:HeaderSize], fds...)
			for _, b := range f[HeaderSize:] {
				l.send([]byte{b})
			}
		}, []received{want(TypeSpawn, 3, "0123456789", files...)}},
		{"fewer than the header says", func(l *link) {
			l.send(frame(TypeSpawn, 3, "x"), fds[0])
			l.send(frame(TypeSpawn, 1, "y"))
			l.send(frame(TypeSpawn, 1, "z"), fds[1])
		}, []received{want(TypeSpawn, 3, "x", files[0]), want(TypeSpawn, 1, "y"), want(TypeSpawn, 1, "z", files[1])}},
		{"more than the header says", func(l *link) {
			l.send(frame(TypeStop, 0, "x"), fds[0], fds[1])
			l.send(frame(TypeSpawn, 1, "y"), fds[2])
		}, []received{want(TypeStop, 0, "x", files[:2]...), want(TypeSpawn, 1, "y", files[2])}},
		{"some with the second half", func(l *link) {
			f := frame(TypeSpawn, 2, "halves")
			l.send(f[:10], fds[0])
			l.send(f[10:], fds[1])
		}, []received{want(TypeSpawn, 2, "halves", files[0], files[1])}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, scratch := range []int{5, 12, 4096} {
				l := newLink(t)
				c.send(l)
				require.Equal(t, unix.EAGAIN, l.drain(scratch))
				require.Equal(t, c.wanted, l.take(), "%d bytes at a time", scratch)

				// Byte after byte as it comes.
				require.Equal(t, unix.EAGAIN, l.read(scratch))
				c.send(l)
				for {
					if err := l.read(1); err != nil {
						require.Equal(t, unix.EAGAIN, err)
						break
					}
				}
				require.Equal(t, c.wanted, l.frames, "byte by byte")
			}
		})
	}
}

// Random frames, in random pieces, received in random amounts.
func TestReaderRandomChunks(t *testing.T) {
	fds, files := newFiles(t, 8)
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		choose := func(n int) int { return random.IntN(n) }
		exchange(t, fds, files, choose)
	}
}

// exchange sends a few frames, in pieces, with the given descriptors attached
// to their first bytes, and checks that they arrive. All choices, which are
// numbers below the given one, are choose's.
func exchange(t testing.TB, fds []int, files []uint64, choose func(n int) int) {
	t.Helper()
	l := newLink(t)
	var wanted []received
	for range 1 + choose(6) {
		n := choose(len(fds) + 1)
		if choose(2) == 0 {
			n = 0
		}
		kind := Type(1 + choose(int(TypeExited)))
		payload := string(bytes.Repeat([]byte{byte('a' + len(wanted))}, choose(300)))
		f := frame(kind, n, payload)
		wanted = append(wanted, received{Header{len(payload), kind, n}, payload, append([]uint64(nil), files[:n]...)})
		for first := true; len(f) > 0; first = false {
			piece := 1 + choose(len(f))
			if first {
				l.sendOrRead(f[:piece], fds[:n]...)
			} else {
				l.sendOrRead(f[:piece])
			}
			f = f[piece:]
			for range choose(3) {
				if err := l.read(1 + choose(500)); err != nil {
					require.Equal(t, unix.EAGAIN, err)
				}
			}
		}
	}
	l.end()
	require.Equal(t, io.EOF, l.drain(1+choose(1000)))
	require.Equal(t, len(wanted), len(l.frames))
	for i := range wanted {
		require.Equal(t, wanted[i].Header, l.frames[i].Header)
		require.Equal(t, wanted[i].payload, l.frames[i].payload)
		require.ElementsMatch(t, wanted[i].files, l.frames[i].files)
	}
}

func TestReaderEnd(t *testing.T) {
	l := newLink(t)
	require.Equal(t, unix.EAGAIN, l.read(64), "nothing has been sent")
	l.send(frame(TypeHello, 0, "hello"))
	l.end()
	require.NoError(t, l.read(64))
	require.Equal(t, []received{want(TypeHello, 0, "hello")}, l.frames)
	for range 3 {
		require.Equal(t, io.EOF, l.read(64))
	}
}

// A sender that ends in the middle of a frame, here with its descriptors
// already sent, leaves nothing open behind once the Reader is closed.
func TestReaderEndInsideFrame(t *testing.T) {
	fds, _ := newFiles(t, 2)
	f := frame(TypeSpawn, 2, "never whole")
	for cut := 1; cut < len(f); cut++ {
		l := newLink(t)
		before := openDescriptors(t)
		l.send(f[:cut], fds...)
		require.NoError(t, l.read(64))
		require.Equal(t, before+2, openDescriptors(t))
		l.end()
		require.Equal(t, io.EOF, l.read(64))
		require.Empty(t, l.frames)
		l.reader.Close()
		require.Equal(t, before-1, openDescriptors(t), "only the sender's end is gone")
	}
}

// After bytes that make no sense there is no telling where the next frame
// begins. Whatever has come along is closed.
func TestReaderMalformed(t *testing.T) {
	fds, files := newFiles(t, 3)
	garbage := []byte("this is no header")
	for _, c := range []struct {
		name  string
		send  func(l *link)
		first []received // what is handed on before
	}{
		{"at once", func(l *link) { l.send(garbage) }, nil},
		{"with descriptors", func(l *link) { l.send(garbage, fds...) }, nil},
		{"behind a frame", func(l *link) {
			l.send(append(frame(TypeStop, 0, "fine"), garbage...))
		}, []received{want(TypeStop, 0, "fine")}},
		{"behind a frame with descriptors", func(l *link) {
			l.send(frame(TypeSpawn, 2, "fine"), fds[0], fds[1])
			l.send(garbage, fds[2])
		}, []received{want(TypeSpawn, 2, "fine", files[0], files[1])}},
		{"behind a frame, both with descriptors in two parts", func(l *link) {
			l.send([]byte{1}, fds[0], fds[1])
			l.send(garbage, fds[2])
		}, nil},
		{"too many descriptors announced", func(l *link) {
			bad := frame(TypeSpawn, MaxDescriptors+1, "")
			l.send(bad, fds...)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, scratch := range []int{3, 4096} {
				l := newLink(t)
				before := openDescriptors(t)
				c.send(l)
				require.ErrorIs(t, l.drain(scratch), ErrMalformed)
				require.Equal(t, c.first, l.frames)
				require.Equal(t, before, openDescriptors(t))
			}
		})
	}
}

// Descriptors without a frame that ends must not pile up.
func TestReaderBoundsDescriptors(t *testing.T) {
	l := newLink(t)
	fds, _ := newFiles(t, 1)
	many := make([]int, 200)
	for i := range many {
		many[i] = fds[0]
	}
	before := openDescriptors(t)
	f := frame(TypeSpawn, 200, "0123456789")
	l.send(f[:10], many...)
	require.NoError(t, l.read(64))
	require.Equal(t, before+200, openDescriptors(t))
	l.send(f[10:11], many...)
	require.ErrorIs(t, l.read(64), ErrMalformed)
	require.Equal(t, before, openDescriptors(t))
}

func TestReaderMostDescriptors(t *testing.T) {
	l := newLink(t)
	fds, files := newFiles(t, 1)
	many := make([]int, MaxDescriptors)
	wanted := make([]uint64, MaxDescriptors)
	for i := range many {
		many[i], wanted[i] = fds[0], files[0]
	}
	l.send(frame(TypeSpawn, MaxDescriptors, "x"), many...)
	require.NoError(t, l.read(64))
	require.Equal(t, []received{want(TypeSpawn, MaxDescriptors, "x", wanted...)}, l.frames)
}

// A Handler's error ends the reading: the frames behind are dropped, and what
// came with them is closed. What came with its own frame is the Handler's.
func TestReaderHandlerError(t *testing.T) {
	fds, _ := newFiles(t, 2)
	errEnough := errors.New("enough")
	for _, withDescriptor := range []bool{false, true} {
		l := newLink(t)
		before := openDescriptors(t)
		l.send(frame(TypeStop, 0, "first"))
		if withDescriptor {
			l.send(frame(TypeSpawn, 2, "second"), fds...)
		} else {
			l.send(frame(TypeStop, 0, "second"))
		}
		calls := 0
		err := l.reader.Read(l.from, make([]byte, 64), func(Header, []byte, []int) error {
			calls++
			return errEnough
		})
		require.ErrorIs(t, err, errEnough)
		require.Equal(t, 1, calls)
		require.Equal(t, before, openDescriptors(t))
	}
}

// Frames may be larger than what is received at once, and larger than what the
// socket holds.
func TestReaderLargeFrame(t *testing.T) {
	fds, files := newFiles(t, 2)
	l := newLink(t)
	for _, size := range []int{64<<10 - HeaderSize, 64 << 10, 2<<20 + 12345, MaxPayload} {
		payload := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
		f := frame(TypeSpawn, 2, string(payload))
		attached := fds
		for len(f) > 0 {
			n, err := Send(l.to, f, attached)
			if err == unix.EAGAIN {
				require.NoError(t, l.read(64<<10))
				continue
			}
			require.NoError(t, err)
			f, attached = f[n:], nil
		}
		require.Equal(t, unix.EAGAIN, l.drain(64<<10))
		got := l.take()
		require.Len(t, got, 1)
		require.Equal(t, files, got[0].files, "descriptors of a frame of %d bytes", len(payload))
		require.True(t, string(payload) == got[0].payload, "a payload of %d bytes arrives unchanged", size)
		require.Empty(t, l.reader.partial, "nothing is kept between frames")
	}
}

// A Reader takes over the bytes that are not a whole frame yet: the caller uses
// its buffer for other sockets meanwhile.
func TestReaderKeepsNoViewOfScratch(t *testing.T) {
	l := newLink(t)
	f := frame(TypeFailed, 0, "a payload in two parts")
	scratch := make([]byte, 64)
	for cut := 1; cut < len(f); cut++ {
		l.send(frame(TypeStop, 0, "x"))
		l.send(f[:cut])
		require.NoError(t, l.reader.Read(l.from, scratch, l.handle))
		clear(scratch)
		l.send(f[cut:])
		require.NoError(t, l.reader.Read(l.from, scratch, l.handle))
		clear(scratch)
		require.Equal(t, []received{want(TypeStop, 0, "x"), want(TypeFailed, 0, "a payload in two parts")}, l.take())
	}
}

// A receiver that has no room for all descriptors gets fewer than the header
// says, and the next frame is not affected.
func TestReaderDescriptorLimit(t *testing.T) {
	fds, files := newFiles(t, 4)
	for room := range 4 {
		l := newLink(t)
		l.send(frame(TypeSpawn, 4, "first"), fds...)
		withDescriptorRoom(t, room, func() { require.NoError(t, l.read(64)) })
		l.send(frame(TypeSpawn, 4, "second"), fds...)
		require.NoError(t, l.read(64))
		require.Len(t, l.frames, 2)
		require.Equal(t, len(files[:room]), len(l.frames[0].files))
		require.Subset(t, files[:room], l.frames[0].files)
		require.Equal(t, want(TypeSpawn, 4, "second", files...), l.frames[1])
	}
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
	full := highestDescriptor(t) + 1
	require.NoError(t, limit(full))
	var fill []int
	defer func() { closeAll(fill) }()
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

func highestDescriptor(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	highest := 0
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		highest = max(highest, fd)
	}
	return highest
}

// A full socket takes nothing, neither bytes nor descriptors.
func TestSendToFullSocket(t *testing.T) {
	l := newLink(t)
	fds, _ := newFiles(t, 1)
	filled := 0
	for {
		n, err := Send(l.to, make([]byte, 32<<10), nil)
		if err != nil {
			require.Equal(t, unix.EAGAIN, err)
			break
		}
		filled += n
	}
	before := openDescriptors(t)
	n, err := Send(l.to, frame(TypeSpawn, 1, "x"), fds)
	require.Equal(t, unix.EAGAIN, err)
	require.LessOrEqual(t, n, 0)
	buf, control := make([]byte, filled+1), make([]byte, 256)
	for filled > 0 {
		n, controlLen, _, _, err := unix.Recvmsg(l.from, buf, control, unix.MSG_DONTWAIT)
		require.NoError(t, err)
		require.Zero(t, controlLen)
		filled -= n
	}
	require.Zero(t, filled)
	require.Equal(t, before, openDescriptors(t))
}

// A sender whose other end has gone gets an error and no signal, which would
// end the test here.
func TestSendAfterEnd(t *testing.T) {
	l := newLink(t)
	require.NoError(t, unix.Shutdown(l.from, unix.SHUT_RDWR))
	_, err := Send(l.to, EncodeRelease(), nil)
	require.Equal(t, unix.EPIPE, err)
}

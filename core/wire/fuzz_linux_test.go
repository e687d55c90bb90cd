// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Whatever comes in place of a Spawn, ParseSpawn refuses it properly, or
// returns something that can be carried out as it is.
func FuzzParseSpawn(f *testing.F) {
	for _, s := range samples() {
		if s.kind == TypeSpawn {
			f.Add(s.frame[HeaderSize:], uint8(s.descriptors))
			f.Add(s.frame[HeaderSize:], uint8(0))
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte, came uint8) {
		descriptors := int(came)
		r, err := ParseSpawn(payload, descriptors)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.Zero(t, r.Flags&^spawnKnownFlags)
		require.NotEmpty(t, r.Argv)
		require.NotEmpty(t, r.Paths)
		require.GreaterOrEqual(t, r.Timeout, int64(0))
		require.GreaterOrEqual(t, r.KillTimeout, int64(KillNow))
		first := 1
		if r.Flags&SpawnCwdDescriptor != 0 {
			first = 2
		}
		require.GreaterOrEqual(t, descriptors, first)
		targets := make(map[int32]bool)
		for _, file := range r.Files {
			require.GreaterOrEqual(t, int(file.Source), first)
			require.Less(t, int(file.Source), descriptors)
			require.GreaterOrEqual(t, file.Target, int32(0))
			require.False(t, targets[file.Target])
			targets[file.Target] = true
		}
		require.True(t, targets[0] && targets[1] && targets[2])
		if r.Flags&SpawnTerminal != 0 {
			require.GreaterOrEqual(t, int(r.Terminal), first)
			require.Less(t, int(r.Terminal), descriptors)
		}
		for _, list := range [][]CString{{r.Program, r.Cwd}, r.Paths, r.Argv, r.Env, r.CgroupSet} {
			for _, text := range list {
				require.NotEmpty(t, text)
				require.NotContains(t, text.String(), "\x00")
				require.Zero(t, text[len(text)-1])
			}
		}
		// There is one way to say it.
		s := Spawn{Setup: r.Setup, Program: r.Program.String(), Cwd: r.Cwd.String(), CgroupBase: r.CgroupBase, CgroupPath: r.CgroupPath}
		for _, list := range []struct {
			to   *[]string
			from []CString
		}{{&s.Paths, r.Paths}, {&s.Argv, r.Argv}, {&s.Env, r.Env}, {&s.CgroupSet, r.CgroupSet}} {
			for _, text := range list.from {
				*list.to = append(*list.to, text.String())
			}
		}
		require.Equal(t, payload, s.Encode(descriptors)[HeaderSize:])
	})
}

// No bytes of a frame, header included, make a decoder panic, and what it
// returns encodes to something that decodes to the same.
func FuzzParseFrame(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.LessOrEqual(t, h.Length, MaxPayload)
		require.LessOrEqual(t, h.Descriptors, MaxDescriptors)
		payload := b[HeaderSize:]
		value, err := parse(h.Type, payload, h.Descriptors)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		var again []byte
		switch v := value.(type) {
		case *Hello:
			again = v.Encode(h.Descriptors)
		case Signal:
			again = v.Encode()
		case Stop:
			again = v.Encode()
		case Started:
			again = v.Encode()
		case Failed:
			again = v.Encode()
		case Answer:
			again = v.Encode()
		case Exited:
			again = v.Encode()
		default:
			return
		}
		same, err := parse(h.Type, again[HeaderSize:], h.Descriptors)
		require.NoError(t, err)
		require.Equal(t, value, same)
	})
}

// choices turns fuzz data into decisions.
type choices []byte

func (c *choices) choose(n int) int {
	if len(*c) == 0 {
		return 0
	}
	v := int((*c)[0])
	*c = (*c)[1:]
	if n > 256 && len(*c) > 0 {
		v = v<<8 | int((*c)[0])
		*c = (*c)[1:]
	}
	return v % n
}

// Valid frames arrive as they were sent, however they are cut, and garbage
// leaves nothing open.
func FuzzReader(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte{5, 1, 1, 2, 0, 80, 3, 1, 1, 0, 200, 2, 2, 7, 0, 1, 1, 9}, []byte{})
	f.Add([]byte{3, 8, 1, 1, 0, 5, 0, 0, 2, 255, 255, 4, 1}, []byte("\x00\x00\x00\x00\x01\x00\x00\x00no header"))
	for _, s := range samples() {
		f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, s.frame)
		f.Add([]byte{9, 9, 1, 1, 7, 7}, append(s.frame, s.frame[:len(s.frame)-1]...))
	}
	f.Fuzz(func(t *testing.T, decisions, raw []byte) {
		fds, files := newFiles(t, 4)
		how := choices(decisions)
		exchange(t, fds, files, how.choose)

		// Arbitrary bytes, with descriptors anywhere.
		how = choices(decisions)
		l := newLink(t)
		for len(raw) > 0 {
			piece := min(1+how.choose(64), len(raw))
			l.send(raw[:piece], fds[:how.choose(len(fds)+1)]...)
			raw = raw[piece:]
			err := l.read(1 + how.choose(300))
			if errors.Is(err, ErrMalformed) {
				return // the link's Cleanup looks for open descriptors
			}
			if err != nil {
				require.Equal(t, unix.EAGAIN, err)
			}
		}
		l.end()
		if err := l.drain(64); err != io.EOF {
			require.ErrorIs(t, err, ErrMalformed)
		}
	})
}

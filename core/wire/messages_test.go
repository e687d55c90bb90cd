// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample is a frame as one side encodes it, and what the other side must make
// of it.
type sample struct {
	name        string
	frame       []byte
	kind        Type
	descriptors int
	want        any
}

// fullSpawn uses every field, with values whose bytes all differ, so that no
// two fields can be mixed up unseen.
func fullSpawn() *Spawn {
	return &Spawn{
		Setup: Setup{
			Flags:       spawnKnownFlags,
			Timeout:     0x0102030405060708,
			KillTimeout: 0x1112131415161718,
			UID:         0x21222324,
			GID:         0x31323334,
			Umask:       0o7654,
			Nice:        -19,
			Terminal:    4,
			Groups:      []uint32{0, 0x41424344, math.MaxUint32},
			Rlimits: []Rlimit{
				{Resource: 7, Soft: 0x5152535455565758, Hard: math.MaxUint64},
				{Resource: -1, Soft: 1, Hard: 2},
			},
			Files: []File{{Source: 2, Target: 0}, {Source: 3, Target: 1}, {Source: 3, Target: 2}, {Source: 4, Target: math.MaxInt32}},
		},
		Program: "prog",
		Paths:   []string{"/usr/local/bin/prog", "", "prog"},
		Cwd:     "/some/where",
		Argv:    []string{"prog", "", "an argument", "\xff\x01 any bytes but NUL"},
		Env:     []string{"A=1", "=", "PATH=/bin"},

		CgroupBase: "a/b",
		CgroupSet:  []string{"memory.max=1", "pids.max=max"},
	}
}

// smallestSpawn is the least that ParseSpawn accepts.
func smallestSpawn() *Spawn {
	return &Spawn{
		Setup: Setup{Files: []File{{Source: 1, Target: 2}, {Source: 1, Target: 1}, {Source: 1, Target: 0}}},
		Paths: []string{""},
		Argv:  []string{""},
	}
}

// asRequest is what a Spawn must look like at the other side.
func asRequest(s *Spawn) *SpawnRequest {
	texts := func(list []string) []CString {
		made := make([]CString, len(list))
		for i, text := range list {
			made[i] = MakeCString(text)
		}
		return made
	}
	r := &SpawnRequest{
		Setup: s.Setup, Program: MakeCString(s.Program), Paths: texts(s.Paths), Cwd: MakeCString(s.Cwd),
		Argv: texts(s.Argv), Env: texts(s.Env),
		CgroupBase: s.CgroupBase, CgroupPath: s.CgroupPath, CgroupSet: texts(s.CgroupSet),
	}
	// An empty list is empty, not nil.
	r.Groups = append([]uint32{}, r.Groups...)
	r.Rlimits = append([]Rlimit{}, r.Rlimits...)
	return r
}

func samples() []sample {
	hello := &Hello{Revision: Revision, Version: "1.2.3", PID: 4711}
	nameless := &Hello{Revision: math.MaxUint32, PID: -1}
	full, smallest := fullSpawn(), smallestSpawn()
	exited := Exited{
		Code: -1, Signal: 11, Core: true, Reason: ReasonTimeout, Time: math.MaxInt64,
		Cgroup: []string{"cpu.stat", "usage_usec 1\n", "memory.peak", "2\n"},
		Usage: Usage{
			User: 1 << 60, System: 2, MaxRSS: 3, MinorFaults: 4, MajorFaults: 5,
			BlocksIn: 6, BlocksOut: 7, VoluntarySwitches: 8, InvoluntarySwitches: math.MaxUint64,
		},
	}
	return []sample{
		{"hello", hello.Encode(1), TypeHello, 1, hello},
		{"hello without version", nameless.Encode(0), TypeHello, 0, nameless},
		{"spawn with everything", full.Encode(5), TypeSpawn, 5, asRequest(full)},
		{"smallest spawn", smallest.Encode(2), TypeSpawn, 2, asRequest(smallest)},
		{"signal", (&Signal{Sequence: 0xfffefdfc, Number: 64}).Encode(), TypeSignal, 0, Signal{0xfffefdfc, 64}},
		{"signal below zero", (&Signal{Number: -1}).Encode(), TypeSignal, 0, Signal{0, -1}},
		{"stop", (&Stop{ReasonKilled}).Encode(), TypeStop, 0, Stop{ReasonKilled}},
		{"stop for output", (&Stop{ReasonOutput}).Encode(), TypeStop, 0, Stop{ReasonOutput}},
		{"release", EncodeRelease(), TypeRelease, 0, nil},
		{"started", (&Started{PID: 0x01020304, Cgroup: "/g"}).Encode(), TypeStarted, 0, Started{0x01020304, "/g"}},
		{"failed", (&Failed{Errno: 13, Why: "execve ./x: permission denied"}).Encode(), TypeFailed, 0, Failed{13, "execve ./x: permission denied"}},
		{"failed silently", (&Failed{Errno: -5}).Encode(), TypeFailed, 0, Failed{Errno: -5}},
		{"answer", (&Answer{Sequence: 7, Errno: 3}).Encode(), TypeAnswer, 0, Answer{7, 3}},
		{"exited by signal", exited.Encode(), TypeExited, 0, exited},
		{"exited by itself", (&Exited{Code: 255, Signal: -1}).Encode(), TypeExited, 0, Exited{Code: 255, Signal: -1}},
	}
}

// parse decodes a payload by its type.
func parse(kind Type, payload []byte, descriptors int) (any, error) {
	switch kind {
	case TypeHello:
		return ParseHello(payload)
	case TypeSpawn:
		return ParseSpawn(payload, descriptors)
	case TypeSignal:
		return ParseSignal(payload)
	case TypeStop:
		return ParseStop(payload)
	case TypeStarted:
		return ParseStarted(payload)
	case TypeFailed:
		return ParseFailed(payload)
	case TypeAnswer:
		return ParseAnswer(payload)
	case TypeExited:
		return ParseExited(payload)
	}
	return nil, nil // TypeRelease has no payload to parse
}

func TestRoundTrip(t *testing.T) {
	seen := make(map[Type]bool)
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			h, err := ParseHeader(s.frame)
			require.NoError(t, err)
			require.Equal(t, Header{len(s.frame) - HeaderSize, s.kind, s.descriptors}, h)
			got, err := parse(h.Type, s.frame[HeaderSize:], h.Descriptors)
			require.NoError(t, err)
			require.Equal(t, s.want, got)
		})
		seen[s.kind] = true
	}
	require.Len(t, seen, int(TypeExited), "every type of frame has a sample")
}

// The layout is fixed by these bytes: who changes them changes Revision too.
func TestLayout(t *testing.T) {
	require.Equal(t, []byte("\x08\x00\x00\x00"+"\x03\x00"+"\x00\x00"+"\x04\x03\x02\x01"+"\x0f\x00\x00\x00"),
		(&Signal{Sequence: 0x01020304, Number: 15}).Encode())
	require.Equal(t, []byte("\x19\x00\x00\x00"+"\x01\x00"+"\x02\x00"+
		"RNRN"+"\x02\x00\x00\x00"+"\x01\x00\x00\x00"+"\x2a\x00\x00\x00"+"\x04\x00\x00\x00"+"v1.0\x00"),
		(&Hello{Role: RoleShepherd, Revision: 1, Version: "v1.0", PID: 42}).Encode(2),
		"of all frames this one must never change, or two revisions can't tell each other apart")
}

// A frame that has been cut anywhere is refused, and so is one with a byte too
// many: a length that does not fit is never made up for.
func TestTruncated(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			for n := range HeaderSize {
				_, err := ParseHeader(s.frame[:n])
				require.ErrorIs(t, err, ErrMalformed, "%d bytes of header", n)
			}
			if s.kind == TypeRelease {
				return
			}
			payload := s.frame[HeaderSize:]
			for n := range payload {
				_, err := parse(s.kind, slices.Clone(payload[:n]), s.descriptors)
				require.ErrorIs(t, err, ErrMalformed, "%d of %d bytes", n, len(payload))
			}
			_, err := parse(s.kind, append(slices.Clone(payload), 0), s.descriptors)
			require.ErrorIs(t, err, ErrMalformed, "one byte too many")
		})
	}
}

// Whatever a single wrong byte makes of a frame is either refused properly or
// another valid frame.
func TestCorrupted(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			for i := range s.frame {
				for _, flip := range []byte{0x01, 0x80, 0xff} {
					bad := slices.Clone(s.frame)
					bad[i] ^= flip
					h, err := ParseHeader(bad)
					if err == nil {
						_, err = parse(h.Type, bad[HeaderSize:], h.Descriptors)
					}
					if err != nil {
						require.ErrorIs(t, err, ErrMalformed)
					}
				}
			}
		})
	}
}

func TestParseHeaderLimits(t *testing.T) {
	header := func(length uint32, kind, zero byte, descriptors uint16) []byte {
		b := binary.LittleEndian.AppendUint32(nil, length)
		b = append(b, kind, zero)
		return binary.LittleEndian.AppendUint16(b, descriptors)
	}
	for _, c := range []struct {
		name   string
		header []byte
		want   *Header // nil: refused
	}{
		{"first type", header(0, byte(TypeHello), 0, 0), &Header{0, TypeHello, 0}},
		{"last type", header(0, byte(TypeExited), 0, 0), &Header{0, TypeExited, 0}},
		{"largest payload", header(MaxPayload, byte(TypeSpawn), 0, 0), &Header{MaxPayload, TypeSpawn, 0}},
		{"most descriptors", header(0, byte(TypeSpawn), 0, MaxDescriptors), &Header{0, TypeSpawn, MaxDescriptors}},
		{"type zero", header(0, 0, 0, 0), nil},
		{"type too high", header(0, byte(TypeExited)+1, 0, 0), nil},
		{"highest type", header(0, 255, 0, 0), nil},
		{"reserved byte", header(0, byte(TypeHello), 1, 0), nil},
		{"payload too large", header(MaxPayload+1, byte(TypeSpawn), 0, 0), nil},
		{"absurd payload", header(math.MaxUint32, byte(TypeSpawn), 0, 0), nil},
		{"too many descriptors", header(0, byte(TypeSpawn), 0, MaxDescriptors+1), nil},
		{"absurdly many descriptors", header(0, byte(TypeSpawn), 0, math.MaxUint16), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := ParseHeader(c.header)
			if c.want == nil {
				require.ErrorIs(t, err, ErrMalformed)
				return
			}
			require.NoError(t, err)
			require.Equal(t, *c.want, h)
		})
	}
}

func TestParseHelloChecksMagic(t *testing.T) {
	frame := (&Hello{Revision: Revision, Version: "1"}).Encode(0)
	frame[HeaderSize] ^= 1
	_, err := ParseHello(frame[HeaderSize:])
	require.ErrorIs(t, err, ErrMalformed)
	require.ErrorContains(t, err, "magic")
}

func TestParseStopTakesWhatHostsMayGive(t *testing.T) {
	for reason := range ReasonOOM + 2 {
		_, err := ParseStop((&Stop{reason}).Encode()[HeaderSize:])
		if reason == ReasonKilled || reason == ReasonOutput {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrMalformed, "reason %d", reason)
		}
	}
}

// What ParseSpawn returns is carried out without further checks, so that each
// of these has to be refused.
func TestParseSpawnRefuses(t *testing.T) {
	standard := func(source int32) []File { return []File{{source, 0}, {source, 1}, {source, 2}} }
	for _, c := range []struct {
		name        string
		descriptors int
		change      func(s *Spawn)
	}{
		{"no descriptors at all", 0, func(s *Spawn) {}},
		{"the process socket as a file", 2, func(s *Spawn) { s.Files = standard(0) }},
		{"the directory as a file", 2, func(s *Spawn) { s.Flags |= SpawnCwdDescriptor }},
		{"no directory", 1, func(s *Spawn) { s.Flags |= SpawnCwdDescriptor; s.Files = nil }},
		{"a source that did not come", 2, func(s *Spawn) { s.Files = standard(2) }},
		{"a source below zero", 2, func(s *Spawn) { s.Files = standard(-1) }},
		{"a target below zero", 2, func(s *Spawn) { s.Files = append(s.Files, File{1, -1}) }},
		{"a target twice", 2, func(s *Spawn) { s.Files = append(s.Files, File{1, 5}, File{1, 5}) }},
		{"a standard target twice", 2, func(s *Spawn) { s.Files = append(s.Files, File{1, 0}) }},
		{"no stdin", 2, func(s *Spawn) { s.Files = []File{{1, 1}, {1, 2}} }},
		{"no stdout", 2, func(s *Spawn) { s.Files = []File{{1, 0}, {1, 2}} }},
		{"no stderr", 2, func(s *Spawn) { s.Files = []File{{1, 0}, {1, 1}} }},
		{"a terminal that did not come", 2, func(s *Spawn) { s.Flags |= SpawnTerminal; s.Terminal = 2 }},
		{"the process socket as a terminal", 2, func(s *Spawn) { s.Flags |= SpawnTerminal }},
		{"a terminal below zero", 2, func(s *Spawn) { s.Flags |= SpawnTerminal; s.Terminal = -1 }},
		{"a flag too many", 2, func(s *Spawn) { s.Flags |= spawnKnownFlags + 1 }},
		{"the highest flag", 2, func(s *Spawn) { s.Flags |= 1 << 31 }},
		{"a timeout below zero", 2, func(s *Spawn) { s.Timeout = -1 }},
		{"a grace below zero", 2, func(s *Spawn) { s.KillTimeout = KillNow - 1 }},
		{"nothing to execute", 2, func(s *Spawn) { s.Paths = nil }},
		{"two cgroups", 2, func(s *Spawn) { s.CgroupBase, s.CgroupPath = "a", "b" }},
		{"a cgroup outside", 2, func(s *Spawn) { s.CgroupBase = "a/../.." }},
		{"an absolute cgroup", 2, func(s *Spawn) { s.CgroupPath = "/a" }},
		{"a setting without a value", 2, func(s *Spawn) { s.CgroupSet = []string{"pids.max"} }},
		{"a setting elsewhere", 2, func(s *Spawn) { s.CgroupSet = []string{"../pids.max=1"} }},
		{"no argv[0]", 2, func(s *Spawn) { s.Argv = nil }},
		// Finding a target twice takes time squared, so there must be a limit.
		{"more files than any host sends", 2, func(s *Spawn) {
			for target := range int32(MaxDescriptors) {
				s.Files = append(s.Files, File{1, target + 3})
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := smallestSpawn()
			c.change(s)
			_, err := ParseSpawn(s.Encode(c.descriptors)[HeaderSize:], c.descriptors)
			require.ErrorIs(t, err, ErrMalformed)
		})
	}

	t.Run("but takes", func(t *testing.T) {
		for name, change := range map[string]func(s *Spawn){
			"kill now":            func(s *Spawn) { s.KillTimeout = KillNow },
			"longest times":       func(s *Spawn) { s.Timeout, s.KillTimeout = math.MaxInt64, math.MaxInt64 },
			"one file many times": func(s *Spawn) { s.Files = append(s.Files, File{1, 3}, File{1, 4}) },
			"the highest target":  func(s *Spawn) { s.Files = append(s.Files, File{1, math.MaxInt32}) },
			"a terminal":          func(s *Spawn) { s.Flags |= SpawnTerminal; s.Terminal = 1 },
			"as many files as come": func(s *Spawn) {
				for target := range int32(MaxDescriptors - 3) {
					s.Files = append(s.Files, File{1, target + 3})
				}
			},
		} {
			s := smallestSpawn()
			change(s)
			r, err := ParseSpawn(s.Encode(2)[HeaderSize:], 2)
			require.NoError(t, err, name)
			require.Equal(t, asRequest(s), r, name)
		}
	})
}

// A NUL inside a string would cut it for the kernel: what is checked would not
// be what is executed.
func TestNULInsideStrings(t *testing.T) {
	for name, frame := range map[string][]byte{
		"version":     (&Hello{Version: "a\x00b"}).Encode(0),
		"why":         (&Failed{Why: "\x00"}).Encode(),
		"program":     spawnWith(func(s *Spawn) { s.Program = "a\x00" }),
		"path":        spawnWith(func(s *Spawn) { s.Paths = []string{"/bin/x", "\x00/bin/x"} }),
		"cwd":         spawnWith(func(s *Spawn) { s.Cwd = "/\x00" }),
		"argument":    spawnWith(func(s *Spawn) { s.Argv = []string{"a", "b\x00c"} }),
		"environment": spawnWith(func(s *Spawn) { s.Env = []string{"A=\x00"} }),
	} {
		t.Run(name, func(t *testing.T) {
			h, err := ParseHeader(frame)
			require.NoError(t, err)
			_, err = parse(h.Type, frame[HeaderSize:], 2)
			require.ErrorIs(t, err, ErrMalformed)
		})
	}
}

func spawnWith(change func(s *Spawn)) []byte {
	s := smallestSpawn()
	change(s)
	return s.Encode(2)
}

// A string without the NUL behind it would make the kernel read on.
func TestStringWithoutNUL(t *testing.T) {
	frame := (&Failed{Why: "text"}).Encode()
	frame[len(frame)-1] = 'x'
	_, err := ParseFailed(frame[HeaderSize:])
	require.ErrorIs(t, err, ErrMalformed)
}

// A length or a count is believed only as far as there are bytes.
func TestAbsurdNumbersAllocateNothing(t *testing.T) {
	for _, s := range samples() {
		payload := s.frame[HeaderSize:]
		for at := 0; at+4 <= len(payload); at++ {
			for _, number := range []uint32{math.MaxUint32, math.MaxInt32, 1 << 31, 1 << 24} {
				bad := slices.Clone(payload)
				binary.LittleEndian.PutUint32(bad[at:], number)
				bytes := allocated(func() { _, _ = parse(s.kind, bad, s.descriptors) })
				require.Less(t, bytes, uint64(64<<10), "%s: %d at byte %d", s.name, number, at)
			}
		}
	}
}

// allocated is how many bytes f has allocated. Others may allocate meanwhile,
// so that the least of three runs counts.
func allocated(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
		if least < 16<<10 {
			break
		}
	}
	return least
}

// The strings of a request are views, not copies: 2 MiB of arguments are held
// once.
func TestParseSpawnCopiesNoText(t *testing.T) {
	s := smallestSpawn()
	s.Argv = append(s.Argv, strings.Repeat("x", 1<<20))
	payload := s.Encode(2)[HeaderSize:]
	require.Less(t, allocated(func() {
		_, err := ParseSpawn(payload, 2)
		require.NoError(t, err)
	}), uint64(64<<10))
}

func TestCString(t *testing.T) {
	require.Equal(t, CString("abc\x00"), MakeCString("abc"))
	require.Equal(t, "abc", MakeCString("abc").String())
	require.Equal(t, "", MakeCString("").String())
	require.Equal(t, "", CString(nil).String())
}

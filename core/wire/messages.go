// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"slices"
	"strings"
)

// Hello opens a control socket. The host's carries one descriptor, a pidfd of
// the host, where the kernel has them.
type Hello struct {
	Role     Role
	Revision uint32
	Version  string // of the library or the shepherd, for error messages
	PID      int32  // of the sender
}

// Role is which side greets: something that echoes is no shepherd.
type Role uint32

// Roles.
const (
	RoleHost Role = 1 + iota
	RoleShepherd
)

// helloMagic keeps a stray program that writes to its descriptor 3 from being
// taken for a shepherd.
const helloMagic = 0x4e52_4e52 // "NRNR"

// Encode returns the whole frame. The layout of Hello never changes, so that
// any two revisions can tell each other apart.
func (h *Hello) Encode(descriptors int) []byte {
	return Frame(TypeHello, descriptors, func(b []byte) []byte {
		b = putU32(b, helloMagic)
		b = putU32(b, uint32(h.Role))
		b = putU32(b, h.Revision)
		b = putU32(b, uint32(h.PID))
		return putText(b, h.Version)
	})
}

// ParseHello decodes the payload of a TypeHello frame.
func ParseHello(payload []byte) (*Hello, error) {
	d := decoder{b: payload}
	if magic := d.u32(); d.err == nil && magic != helloMagic {
		d.fail("magic number %#x", magic)
	}
	h := &Hello{Role: Role(d.u32()), Revision: d.u32(), PID: d.i32()}
	h.Version = d.text().String()
	return h, d.finish()
}

// SpawnFlags are the yes-or-no parts of a Spawn.
type SpawnFlags uint32

// What a Spawn asks for, and which of its fields count.
const (
	SpawnSession    SpawnFlags = 1 << iota // a session, not only a process group, of its own
	SpawnTerminal                          // a session with a controlling terminal
	SpawnLinger                            // the rest of the tree outlives the program
	SpawnNoNewPrivs                        // PR_SET_NO_NEW_PRIVS
	SpawnUID
	SpawnGID
	SpawnGroups
	SpawnUmask
	SpawnNice
	SpawnPIDNamespace
	SpawnCwdDescriptor // descriptor 1 is a directory to start from
	spawnKnownFlags    = 1<<iota - 1
)

// KillNow as a KillTimeout means no SIGTERM and no grace.
const KillNow = -1

// File says that descriptor number Source of the Spawn's frame becomes
// descriptor Target of the program.
type File struct {
	Source int32
	Target int32
}

// Rlimit is a resource limit of the program, as setrlimit(2) takes it.
type Rlimit struct {
	Resource int32
	Soft     uint64
	Hard     uint64
}

// Setup is all of a Spawn that is not text.
type Setup struct {
	Flags       SpawnFlags
	Timeout     int64 // ns, 0: none
	KillTimeout int64 // ns between SIGTERM and SIGKILL, or KillNow
	UID         uint32
	GID         uint32
	Umask       uint32
	Nice        int32
	Terminal    int32 // SpawnTerminal: the descriptor of the frame that is the terminal
	Groups      []uint32
	Rlimits     []Rlimit
	Files       []File
}

// Spawn asks for a program. Descriptor 0 of its frame is the shepherd's end of
// the process socket.
type Spawn struct {
	Setup
	// Program is what the host asked for, for messages. Paths are the files
	// to try to execute, in order.
	Program string
	Paths   []string
	Cwd     string // "" stays where SpawnCwdDescriptor or the shepherd is
	Argv    []string
	Env     []string

	// At most one of CgroupBase and CgroupPath, below where cgroup2 is mounted.
	CgroupBase string
	CgroupPath string
	CgroupSet  []string // "memory.max=1000000"
}

// Encode returns the whole frame.
func (s *Spawn) Encode(descriptors int) []byte {
	return Frame(TypeSpawn, descriptors, func(b []byte) []byte {
		b = putU32(b, uint32(s.Flags))
		b = putU64(b, uint64(s.Timeout))
		b = putU64(b, uint64(s.KillTimeout))
		b = putU32(b, s.UID)
		b = putU32(b, s.GID)
		b = putU32(b, s.Umask)
		b = putU32(b, uint32(s.Nice))
		b = putU32(b, uint32(s.Terminal))
		b = putU32(b, uint32(len(s.Groups)))
		for _, g := range s.Groups {
			b = putU32(b, g)
		}
		b = putU32(b, uint32(len(s.Rlimits)))
		for _, r := range s.Rlimits {
			b = putU32(b, uint32(r.Resource))
			b = putU64(b, r.Soft)
			b = putU64(b, r.Hard)
		}
		b = putU32(b, uint32(len(s.Files)))
		for _, f := range s.Files {
			b = putU32(b, uint32(f.Source))
			b = putU32(b, uint32(f.Target))
		}
		b = putText(b, s.Program)
		b = putTexts(b, s.Paths)
		b = putText(b, s.Cwd)
		b = putTexts(b, s.Argv)
		b = putTexts(b, s.Env)
		b = putText(b, s.CgroupBase)
		b = putText(b, s.CgroupPath)
		return putTexts(b, s.CgroupSet)
	})
}

// SpawnRequest is a Spawn as the shepherd sees it. Its strings are views into
// the payload that it was parsed from.
type SpawnRequest struct {
	Setup
	Program CString
	Paths   []CString
	Cwd     CString
	Argv    []CString
	Env     []CString

	CgroupBase string
	CgroupPath string
	CgroupSet  []CString
}

// ParseSpawn decodes the payload of a TypeSpawn frame that came with the given
// number of descriptors. What it returns can be carried out as it is: every
// index is in range and every list has the elements that it must have.
func ParseSpawn(payload []byte, descriptors int) (*SpawnRequest, error) {
	d := decoder{b: payload}
	r := new(SpawnRequest)
	r.Flags = SpawnFlags(d.u32())
	r.Timeout = d.i64()
	r.KillTimeout = d.i64()
	r.UID = d.u32()
	r.GID = d.u32()
	r.Umask = d.u32()
	r.Nice = d.i32()
	r.Terminal = d.i32()
	r.Groups = make([]uint32, d.count(4))
	for i := range r.Groups {
		r.Groups[i] = d.u32()
	}
	r.Rlimits = make([]Rlimit, d.count(20))
	for i := range r.Rlimits {
		r.Rlimits[i] = Rlimit{Resource: d.i32(), Soft: d.u64(), Hard: d.u64()}
	}
	r.Files = make([]File, d.count(8))
	for i := range r.Files {
		r.Files[i] = File{Source: d.i32(), Target: d.i32()}
	}
	r.Program = d.text()
	r.Paths = d.texts()
	r.Cwd = d.text()
	r.Argv = d.texts()
	r.Env = d.texts()
	r.CgroupBase = d.text().String()
	r.CgroupPath = d.text().String()
	r.CgroupSet = d.texts()
	if err := d.finish(); err != nil {
		return nil, err
	}
	return r, r.check(descriptors)
}

func (r *SpawnRequest) check(descriptors int) error {
	first := int32(1) // 0 is the process socket
	if r.Flags&SpawnCwdDescriptor != 0 {
		first = 2
	}
	came := func(index int32) bool { return index >= first && int(index) < descriptors }
	if len(r.Files) > MaxDescriptors { // what follows takes time squared
		return malformed("%d files", len(r.Files))
	}
	for i, f := range r.Files {
		if !came(f.Source) {
			return malformed("descriptor %d of %d", f.Source, descriptors)
		}
		if f.Target < 0 || hasTarget(r.Files[:i], f.Target) {
			return malformed("target descriptor %d", f.Target)
		}
	}
	standard := hasTarget(r.Files, 0) && hasTarget(r.Files, 1) && hasTarget(r.Files, 2)
	switch {
	case int(first) > descriptors:
		return malformed("%d descriptors", descriptors)
	case r.Flags&^spawnKnownFlags != 0:
		return malformed("flags %#x", uint32(r.Flags))
	case !standard:
		return malformed("no standard descriptors")
	case r.Flags&SpawnTerminal != 0 && !came(r.Terminal):
		return malformed("terminal: descriptor %d of %d", r.Terminal, descriptors)
	case r.Timeout < 0 || r.KillTimeout < KillNow:
		return malformed("timeouts %d and %d", r.Timeout, r.KillTimeout)
	case r.CgroupBase != "" && r.CgroupPath != "":
		return malformed("two cgroups")
	case !isCgroupPath(r.CgroupBase) || !isCgroupPath(r.CgroupPath):
		return malformed("cgroup %q%q", r.CgroupBase, r.CgroupPath)
	case slices.ContainsFunc(r.CgroupSet, isNoSetting):
		return malformed("setting of a cgroup")
	case len(r.Paths) == 0 || len(r.Argv) == 0:
		return malformed("%d paths and %d arguments", len(r.Paths), len(r.Argv))
	}
	return nil
}

func isNoSetting(text CString) bool {
	name, _, ok := strings.Cut(text.String(), "=")
	return !ok || !IsCgroupName(name)
}

func hasTarget(files []File, target int32) bool {
	return slices.ContainsFunc(files, func(f File) bool { return f.Target == target })
}

// Signal sends a signal to a program's process group. Number 0 sends none.
type Signal struct {
	Sequence uint32 // comes back in the Answer
	Number   int32
}

// Encode returns the whole frame.
func (s *Signal) Encode() []byte {
	return Frame(TypeSignal, 0, func(b []byte) []byte {
		return putU32(putU32(b, s.Sequence), uint32(s.Number))
	})
}

// ParseSignal decodes the payload of a TypeSignal frame.
func ParseSignal(payload []byte) (Signal, error) {
	d := decoder{b: payload}
	s := Signal{Sequence: d.u32(), Number: d.i32()}
	return s, d.finish()
}

// Reason says why a program ended. The numbers are those of NR_REASON_ in
// netrunner.h.
type Reason uint32

// Reasons.
const (
	ReasonOwn Reason = iota
	ReasonKilled
	ReasonTimeout
	ReasonOutput
	ReasonOOM
)

// Stop ends a program, for the given reason: SIGTERM, its KillTimeout, SIGKILL;
// for ReasonOutput SIGKILL at once.
type Stop struct {
	Reason Reason
}

// Encode returns the whole frame.
func (s *Stop) Encode() []byte {
	return Frame(TypeStop, 0, func(b []byte) []byte { return putU32(b, uint32(s.Reason)) })
}

// ParseStop decodes the payload of a TypeStop frame.
func ParseStop(payload []byte) (Stop, error) {
	d := decoder{b: payload}
	s := Stop{Reason: Reason(d.u32())}
	if d.err == nil && s.Reason != ReasonKilled && s.Reason != ReasonOutput {
		d.fail("reason %d", s.Reason)
	}
	return s, d.finish()
}

// EncodeRelease returns a whole Release frame: stop the program as by Stop, the
// host has no more use for it and will not see its end.
func EncodeRelease() []byte { return Frame(TypeRelease, 0, nil) }

// Started tells that the program has been executed.
type Started struct {
	PID    int32
	Cgroup string // the directory of its cgroup, "": it has none of its own
}

// Encode returns the whole frame.
func (s *Started) Encode() []byte {
	return Frame(TypeStarted, 0, func(b []byte) []byte { return putText(putU32(b, uint32(s.PID)), s.Cgroup) })
}

// ParseStarted decodes the payload of a TypeStarted frame.
func ParseStarted(payload []byte) (Started, error) {
	d := decoder{b: payload}
	s := Started{PID: d.i32()}
	s.Cgroup = d.text().String()
	return s, d.finish()
}

// Failed tells that the program could not be executed, and is the last frame.
type Failed struct {
	Errno int32
	Why   string // "execve ./x: permission denied"
}

// Encode returns the whole frame.
func (f *Failed) Encode() []byte {
	return Frame(TypeFailed, 0, func(b []byte) []byte {
		return putText(putU32(b, uint32(f.Errno)), f.Why)
	})
}

// ParseFailed decodes the payload of a TypeFailed frame.
func ParseFailed(payload []byte) (Failed, error) {
	d := decoder{b: payload}
	f := Failed{Errno: d.i32()}
	f.Why = d.text().String()
	return f, d.finish()
}

// Answer tells what became of a Signal.
type Answer struct {
	Sequence uint32
	Errno    int32 // 0: sent
}

// Encode returns the whole frame.
func (a *Answer) Encode() []byte {
	return Frame(TypeAnswer, 0, func(b []byte) []byte {
		return putU32(putU32(b, a.Sequence), uint32(a.Errno))
	})
}

// ParseAnswer decodes the payload of a TypeAnswer frame.
func ParseAnswer(payload []byte) (Answer, error) {
	d := decoder{b: payload}
	a := Answer{Sequence: d.u32(), Errno: d.i32()}
	return a, d.finish()
}

// Exited tells how a program ended, when the rest of its group is gone, and is
// the last frame.
type Exited struct {
	Code   int32 // -1 after a signal
	Signal int32 // -1 after exit(2)
	Core   bool
	Reason Reason
	Time   int64 // CLOCK_MONOTONIC, ns
	Usage  Usage
	// What is known of its cgroup, which may be gone by now: a file's name and
	// its text, one after the other.
	Cgroup []string
}

// Usage is what a program used, and the children that it waited for.
type Usage struct {
	User                uint64 // ns
	System              uint64 // ns
	MaxRSS              uint64 // bytes
	MinorFaults         uint64
	MajorFaults         uint64
	BlocksIn            uint64
	BlocksOut           uint64
	VoluntarySwitches   uint64
	InvoluntarySwitches uint64
}

func (u *Usage) fields() []*uint64 {
	return []*uint64{&u.User, &u.System, &u.MaxRSS, &u.MinorFaults, &u.MajorFaults,
		&u.BlocksIn, &u.BlocksOut, &u.VoluntarySwitches, &u.InvoluntarySwitches}
}

// Encode returns the whole frame.
func (e *Exited) Encode() []byte {
	return Frame(TypeExited, 0, func(b []byte) []byte {
		core := uint32(0)
		if e.Core {
			core = 1
		}
		b = putU32(b, uint32(e.Code))
		b = putU32(b, uint32(e.Signal))
		b = putU32(b, core)
		b = putU32(b, uint32(e.Reason))
		b = putU64(b, uint64(e.Time))
		for _, f := range e.Usage.fields() {
			b = putU64(b, *f)
		}
		return putTexts(b, e.Cgroup)
	})
}

// ParseExited decodes the payload of a TypeExited frame.
func ParseExited(payload []byte) (Exited, error) {
	d := decoder{b: payload}
	e := Exited{Code: d.i32(), Signal: d.i32(), Core: d.u32() != 0, Reason: Reason(d.u32()), Time: d.i64()}
	for _, f := range e.Usage.fields() {
		*f = d.u64()
	}
	for _, text := range d.texts() {
		e.Cgroup = append(e.Cgroup, text.String())
	}
	if d.err == nil && len(e.Cgroup)%2 != 0 {
		d.fail("%d names and texts", len(e.Cgroup))
	}
	return e, d.finish()
}

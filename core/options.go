// SPDX-License-Identifier: Apache-2.0

package core

import (
	"math"
	"strings"
	"time"

	"libnetrunner/core/wire"
)

// StdioMode says what a stream of the program is connected to. The numbers are
// those of NR_STDIO_ in netrunner.h.
type StdioMode int32

// Modes.
const (
	StdioAuto StdioMode = iota
	StdioPipe
	StdioNull
	StdioInherit
	StdioFD
	StdioStdout // stderr only
)

// Stdio is a mode and, for StdioFD, a descriptor, which stays the caller's.
type Stdio struct {
	Mode StdioMode
	FD   int
}

// Flags are the bits of nr_options.flags.
type Flags uint64

// Flags. The numbers are those of netrunner.h.
const (
	PTY          Flags = 1 << 0
	PTYNoEcho    Flags = 1 << 1
	Session      Flags = 1 << 2
	Async        Flags = 1 << 3
	Linger       Flags = 1 << 4
	OwnShepherd  Flags = 1 << 5
	PIDNamespace Flags = 1 << 6
	NoNewPrivs   Flags = 1 << 7
	SetUID       Flags = 1 << 16
	SetGID       Flags = 1 << 17
	SetGroups    Flags = 1 << 18
	SetUmask     Flags = 1 << 19
	SetNice      Flags = 1 << 20

	knownFlags = PTY | PTYNoEcho | Session | Async | Linger | OwnShepherd | PIDNamespace |
		NoNewPrivs | SetUID | SetGID | SetGroups | SetUmask | SetNice
)

// Descriptor is one of the caller's, which the program gets as Target.
type Descriptor struct {
	FD     int
	Target int
}

// DefaultKillTimeout is the grace between SIGTERM and SIGKILL.
const DefaultKillTimeout = 5 * time.Second

// KillNow as a KillTimeout means SIGKILL at once, without SIGTERM.
const KillNow time.Duration = -1

// Options say how to run a program, see nr_options in netrunner.h.
type Options struct {
	Flags Flags

	Argv []string
	File string // "": Argv[0]
	Env  []string
	Cwd  string // "": the caller's

	Stdin, Stdout, Stderr Stdio
	Descriptors           []Descriptor
	PipeSize              int // bytes, 0: the kernel's default

	Rows, Cols uint16

	Timeout     time.Duration // 0: none
	KillTimeout time.Duration // 0: DefaultKillTimeout

	UID, GID uint32
	Groups   []uint32
	Umask    uint32
	Nice     int32
	Rlimits  []wire.Rlimit

	CgroupBase, CgroupPath string
	CgroupSet              []string // "memory.max=1000000"
}

// maxDescriptors leaves room in a frame for the process socket, a directory
// and the standard streams.
const maxDescriptors = wire.MaxDescriptors - 5

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// check refuses what makes no sense whatever the kernel says.
func (o *Options) check() error {
	if unknown := o.Flags &^ knownFlags; unknown != 0 {
		return invalid("flags: unknown bits %#x", uint64(unknown))
	}
	switch {
	case len(o.Argv) == 0:
		return invalid("argv: empty")
	case o.Flags&PTYNoEcho != 0 && o.Flags&PTY == 0:
		return invalid("flags: NR_PTY_NOECHO without NR_PTY")
	case o.Flags&PTY == 0 && (o.Rows != 0 || o.Cols != 0):
		return invalid("rows, cols: without NR_PTY")
	case o.PipeSize < 0 || o.PipeSize > math.MaxInt32:
		return invalid("pipe_size: %d", o.PipeSize)
	case o.Timeout < 0:
		return invalid("timeout_ms: negative")
	case o.KillTimeout < 0 && o.KillTimeout != KillNow:
		return invalid("kill_timeout_ms: negative, and not NR_KILL_NOW")
	case o.Flags&SetUmask != 0 && o.Umask&^0o777 != 0:
		return invalid("umask: %#o", o.Umask)
	case o.Flags&SetNice != 0 && (o.Nice < -20 || o.Nice > 19):
		return invalid("nice: %d is not in -20..19", o.Nice)
	case o.Flags&SetUID != 0 && o.UID == math.MaxUint32:
		return invalid("uid: -1 is no user")
	case o.Flags&SetGID != 0 && o.GID == math.MaxUint32:
		return invalid("gid: -1 is no group")
	case o.Flags&SetGroups != 0 && len(o.Groups) > maxGroups:
		return invalid("groups: %d are more than %d", len(o.Groups), maxGroups)
	}
	if err := o.checkDescriptors(); err != nil {
		return err
	}
	for _, r := range o.Rlimits {
		if r.Resource < 0 || r.Resource >= rlimitCount {
			return invalid("rlimits: no resource %d", r.Resource)
		}
		if r.Soft > r.Hard {
			return invalid("rlimits: resource %d: soft limit %d is above hard limit %d", r.Resource, r.Soft, r.Hard)
		}
	}
	return o.checkCgroup()
}

func (o *Options) checkDescriptors() error {
	for _, s := range []struct {
		name  string
		stdio Stdio
		last  StdioMode
	}{{"in", o.Stdin, StdioFD}, {"out", o.Stdout, StdioFD}, {"err", o.Stderr, StdioStdout}} {
		if s.stdio.Mode < StdioAuto || s.stdio.Mode > s.last {
			return invalid("%s.mode: %d", s.name, s.stdio.Mode)
		}
	}
	if len(o.Descriptors) > maxDescriptors {
		return invalid("nfds: %d are more than %d", len(o.Descriptors), maxDescriptors)
	}
	targets := make(map[int]bool, len(o.Descriptors))
	for _, d := range o.Descriptors {
		if d.Target <= 2 {
			return invalid("fds: target %d is not above 2", d.Target)
		}
		if targets[d.Target] {
			return invalid("fds: target %d is given twice", d.Target)
		}
		targets[d.Target] = true
	}
	return nil
}

func (o *Options) checkCgroup() error {
	if o.CgroupBase != "" && o.CgroupPath != "" {
		return invalid("cgroup_base and cgroup_path: only one may be given")
	}
	for _, c := range []struct{ name, path string }{{"cgroup_base", o.CgroupBase}, {"cgroup_path", o.CgroupPath}} {
		if strings.HasPrefix(c.path, "/") {
			return invalid("%s: %q is absolute, not below where cgroup2 is mounted", c.name, c.path)
		}
		for _, part := range strings.Split(c.path, "/") {
			if c.path != "" && !wire.IsCgroupName(part) {
				return invalid("%s: %q contains %q", c.name, c.path, part)
			}
		}
	}
	if len(o.CgroupSet) > 0 && o.CgroupBase == "" && o.CgroupPath == "" {
		return invalid("cgroup_set: without cgroup_base or cgroup_path")
	}
	for _, setting := range o.CgroupSet {
		name, _, ok := strings.Cut(setting, "=")
		if !ok || checkCgroupFile(name) != nil {
			return invalid("cgroup_set: %q is not NAME=VALUE", setting)
		}
	}
	return nil
}

// checkCgroupFile refuses what is not the name of a file in a cgroup.
func checkCgroupFile(name string) error {
	if !wire.IsCgroupName(name) {
		return invalid("%q is no file of a cgroup", name)
	}
	return nil
}

// file is what to execute.
func (o *Options) file() string {
	if o.File != "" {
		return o.File
	}
	return o.Argv[0]
}

// defaultPath is where to look for programs without PATH, as execvp(3) does.
const defaultPath = "/bin:/usr/bin"

// lookup returns the files to try to execute, in order, as execvp(3) tries
// them: with a slash the file itself, else that name in each directory of the
// PATH of env, where an empty directory is the working directory.
func lookup(file string, env []string) []string {
	if file == "" || strings.Contains(file, "/") {
		return []string{file}
	}
	path := defaultPath
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			path = value
			break
		}
	}
	var paths []string
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			paths = append(paths, file)
		} else {
			paths = append(paths, dir+"/"+file)
		}
	}
	return paths
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// write turns a request into the system calls of the child, in the order that
// they depend on each other: descriptors while the limits are still wide,
// limits while there is still privilege, the directory with the program's own
// permissions, and PR_SET_PDEATHSIG after the last change of identity, which
// clears it.
//
// descriptors are those of the request's frame; inheritedUmask is the host's,
// or -1; mark is the program's lineage mark.
func (s *script) write(r *wire.SpawnRequest, descriptors []int, inheritedUmask int, mark uint64) {
	s.reset()
	directory := -1
	if r.Flags&wire.SpawnCwdDescriptor != 0 {
		directory = descriptors[1]
	}
	s.unshareFiles(descriptors[1:])
	founded := r.Flags&wire.SpawnPIDNamespace != 0
	if founded {
		s.found(directory)
		s.mountProc()
	}
	if r.Flags&(wire.SpawnSession|wire.SpawnTerminal) != 0 {
		s.add("setsid", nil, unix.SYS_SETSID, 0, 0, 0, 0)
	} else {
		s.add("setpgid", nil, unix.SYS_SETPGID, 0, 0, 0, 0)
	}
	if r.Flags&wire.SpawnTerminal != 0 {
		s.add("ioctl TIOCSCTTY", nil, unix.SYS_IOCTL, uintptr(descriptors[r.Terminal]), unix.TIOCSCTTY, 0, 0)
	}
	directory = s.connect(r.Files, descriptors, directory)

	if r.Flags&wire.SpawnUmask != 0 {
		s.add("umask", nil, unix.SYS_UMASK, uintptr(r.Umask), 0, 0, 0)
	} else if inheritedUmask >= 0 {
		s.add("umask", nil, unix.SYS_UMASK, uintptr(inheritedUmask), 0, 0, 0)
	}
	if r.Flags&wire.SpawnNice != 0 {
		s.add("setpriority", r.Nice, unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(r.Nice), 0)
	}
	s.add("setrlimit RLIMIT_LOCKS", nil, unix.SYS_PRLIMIT64, 0, unix.RLIMIT_LOCKS, s.memory(mark, locksLimit()), 0).
		tolerate(unix.EPERM, unix.EINVAL) // a lower hard limit: it will do without
	for _, l := range r.Rlimits {
		limit := s.memory(l.Soft, l.Hard) // struct rlimit64
		s.add("setrlimit", rlimitName(l.Resource), unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), limit, 0)
	}

	s.becomeUser(r)

	switch {
	case directory < 0:
	case founded: // the founder has gone there; may the program?
		s.add("chdir", "to the host's working directory", unix.SYS_CHDIR, s.text("."), 0, 0, 0)
	default:
		s.add("chdir", "to the host's working directory", unix.SYS_FCHDIR, uintptr(directory), 0, 0, 0)
	}
	if len(r.Cwd) > 1 {
		s.add("chdir", r.Cwd, unix.SYS_CHDIR, address(r.Cwd), 0, 0, 0)
	}
	if r.Flags&wire.SpawnNoNewPrivs != 0 {
		s.add("prctl PR_SET_NO_NEW_PRIVS", nil, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0)
	}
	s.add("prctl PR_SET_PDEATHSIG", nil, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0)
	s.add("sigprocmask", nil, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, s.memory(0), 0, 8)

	s.execute(r)
}

// connect gives the program its descriptors. All of ours are close-on-exec, so
// it gets no other. It returns where directory, which may be -1, is to be found
// afterwards.
func (s *script) connect(files []wire.File, descriptors []int, directory int) int {
	isTarget := func(fd int) bool {
		return slices.ContainsFunc(files, func(f wire.File) bool { return int(f.Target) == fd })
	}
	// A source that has the number of some target moves away first: to one that
	// may be another descriptor of ours, of which the child has only a copy.
	free := 3
	var moved map[int]int // seldom any
	move := func(source int) int {
		if !isTarget(source) {
			return source
		}
		if to, done := moved[source]; done {
			return to
		}
		for isTarget(free) || slices.Contains(descriptors, free) {
			free++
		}
		to := free
		free++
		s.add("dup3 to make room for descriptor", source, unix.SYS_DUP3, uintptr(source), uintptr(to), unix.O_CLOEXEC, 0)
		if moved == nil {
			moved = make(map[int]int)
		}
		moved[source] = to
		return to
	}
	directory = move(directory)
	for _, f := range files {
		move(descriptors[f.Source])
	}
	for _, f := range files {
		s.add("dup3 to descriptor", f.Target, unix.SYS_DUP3, uintptr(move(descriptors[f.Source])), uintptr(f.Target), 0, 0)
	}
	return directory
}

// becomeUser changes user and groups. Whoever becomes another user or group
// without saying which supplementary groups it wants keeps none of ours.
func (s *script) becomeUser(r *wire.SpawnRequest) {
	switch {
	case r.Flags&wire.SpawnGroups != 0:
		list := uintptr(0)
		if len(r.Groups) > 0 {
			list = uintptr(unsafe.Pointer(&r.Groups[0]))
		}
		s.add("setgroups", nil, unix.SYS_SETGROUPS, uintptr(len(r.Groups)), list, 0, 0)
	case r.Flags&(wire.SpawnUID|wire.SpawnGID) != 0:
		// Without privilege there is no way, and nothing to lose.
		s.add("setgroups", nil, unix.SYS_SETGROUPS, 0, 0, 0, 0).tolerate(unix.EPERM)
	}
	if r.Flags&wire.SpawnGID != 0 {
		gid := uintptr(r.GID)
		s.add("setgid", r.GID, unix.SYS_SETRESGID, gid, gid, gid, 0)
	}
	if r.Flags&wire.SpawnUID != 0 {
		uid := uintptr(r.UID)
		s.add("setuid", r.UID, unix.SYS_SETRESUID, uid, uid, uid, 0)
	}
}

// searchErrors are those after which execvp(3) looks further.
var searchErrors = []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ENODEV}

func lookFurther(errno unix.Errno) bool { return slices.Contains(searchErrors, errno) }

// execute tries the files to execute, further ones after searchErrors.
func (s *script) execute(r *wire.SpawnRequest) {
	argv, envp := s.pointers(r.Argv), s.pointers(r.Env)
	var subject any = r.Paths[0]
	if len(r.Paths) > 1 {
		subject = r.Program.String() + " (looked up in PATH)"
	}
	for i, path := range r.Paths {
		try := s.add("execve", subject, unix.SYS_EXECVE, address(path), argv, envp, 0)
		if i < len(r.Paths)-1 {
			try.tolerate(searchErrors...)
		}
	}
}

// memory keeps words for a row to point to.
func (s *script) memory(words ...uint64) uintptr {
	s.keep = append(s.keep, words)
	return uintptr(unsafe.Pointer(&words[0]))
}

// text keeps a string, for a row to point to, with the NUL that C wants.
func (s *script) text(text string) uintptr {
	words := make([]uint64, len(text)/8+1)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words)), text)
	return s.memory(words...)
}

// pointers makes the NULL-terminated array that execve(2) takes.
func (s *script) pointers(list []wire.CString) uintptr {
	array := make([]uint64, len(list)+1)
	for i, text := range list {
		array[i] = uint64(address(text))
	}
	return s.memory(array...)
}

// address is where a string of a request is. The request lives until the child
// has executed.
func address(s wire.CString) uintptr { return uintptr(unsafe.Pointer(&s[0])) }

// locksLimit is the hard RLIMIT_LOCKS, which stays as it is.
var locksLimit = sync.OnceValue(func() uint64 {
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_LOCKS, &limit)
	return limit.Max
})

func rlimitName(resource int32) string {
	names := [...]string{"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS",
		"RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING",
		"RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME"}
	if resource >= 0 && int(resource) < len(names) {
		return names[resource]
	}
	return "of an unknown resource"
}

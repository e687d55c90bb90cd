// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// A cgroup is what a program of its own is born into: no fork of it is ever
// outside. Making it may take time and is done by the worker that forks, without
// the lock; what is done under the lock afterwards does not block.
type cgroup struct {
	dir    string
	fd     int // of dir; a fresh one is locked with flock(2) as long as we live
	procs  int // cgroup.procs, to write to; until the program has been forked
	events int // cgroup.events, which says when the last process has died
	kill   int // cgroup.kill, -1 before Linux 5.14

	// made are the directories to remove when they have become empty, the
	// deepest first.
	made     []string
	oomKills uint64 // before the program
}

// Made directories have this extended attribute, by which a later shepherd
// knows that they may be removed: nobody else did make them.
const (
	madeAttribute = "user.netrunner"
	madeValue     = "made"
)

// freshPrefix begins the names of groups below a cgroup_base.
const freshPrefix = "netrunner-"

// freshGroups counts those of this process.
var freshGroups atomic.Uint64

// withoutCgroupKill is for tests: kernels before 5.14 don't have it.
var withoutCgroupKill bool

func groupError(err error, format string, args ...any) *stepError {
	errno, ok := err.(unix.Errno)
	if !ok {
		errno = unix.EIO
	}
	return &stepError{errno: errno, step: step{name: "cgroup: " + fmt.Sprintf(format, args...)}}
}

// finally is groupError for what would fail again.
func finally(err error, format string, args ...any) *stepError {
	e := groupError(err, format, args...)
	e.final = true
	return e
}

// permission explains what to do about an errno of a cgroup's files.
func permission(err error, dir string) string {
	switch err {
	case unix.EACCES, unix.EPERM:
		return " (" + dir + " is not delegated to this user, see docs/cgroups.md)"
	case unix.EROFS:
		return " (it is mounted read-only, as in most containers, see docs/cgroups.md)"
	}
	return ""
}

// newCgroup makes what a request asks for, nil if that is nothing.
func newCgroup(r *wire.SpawnRequest) (*cgroup, error) {
	if r.CgroupBase == "" && r.CgroupPath == "" {
		return nil, nil
	}
	mount, err := cgroupMount()
	if err != nil {
		return nil, err
	}
	g := &cgroup{fd: -1, procs: -1, events: -1, kill: -1}
	// The last program of a made group, whosever it is, may take the group away
	// between two steps.
	var failure *stepError
	for range 100 {
		if failure = g.make(mount, r); failure == nil {
			return g, nil
		}
		g.discard()
		if failure.final || failure.errno != unix.ENOENT && failure.errno != unix.ENODEV {
			break
		}
	}
	return nil, failure
}

func (g *cgroup) make(mount string, r *wire.SpawnRequest) *stepError {
	*g = cgroup{dir: mount, fd: -1, procs: -1, events: -1, kill: -1}
	base := -1
	for _, name := range strings.Split(r.CgroupBase+r.CgroupPath, "/") {
		if err := g.enter(name); err != nil {
			return err
		}
	}
	if r.CgroupBase != "" {
		removeLeftovers(g.dir)
		// Nobody takes a fresh group for a leftover before it is locked.
		var err error
		if base, err = openLocked(g.dir, unix.LOCK_SH); err != nil {
			return groupError(err, "lock %s", g.dir)
		}
		defer unix.Close(base)
		if err := g.enter(fmt.Sprintf("%s%d-%d", freshPrefix, os.Getpid(), freshGroups.Add(1))); err != nil {
			return err
		}
	}
	var err error
	if g.fd, err = unix.Open(g.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return groupError(err, "open %s", g.dir)
	}
	if base >= 0 {
		if err := unix.Flock(g.fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return groupError(err, "lock %s", g.dir)
		}
	}
	if kind, err := readGroupFile(g.dir, "cgroup.type"); err == nil && strings.TrimSpace(kind) != "domain" &&
		strings.TrimSpace(kind) != "domain threaded" {
		return groupError(unix.EOPNOTSUPP, "%s is %q: a threaded domain takes threads, not processes", g.dir, strings.TrimSpace(kind))
	}
	for _, setting := range r.CgroupSet {
		name, value, _ := strings.Cut(setting.String(), "=")
		if err := g.set(mount, name, value); err != nil {
			return err
		}
	}
	if g.procs, err = g.open("cgroup.procs", unix.O_WRONLY); err != nil {
		return groupError(err, "open %s/cgroup.procs%s", g.dir, permission(err, g.dir))
	}
	if g.events, err = g.open("cgroup.events", unix.O_RDONLY); err != nil {
		return groupError(err, "open %s/cgroup.events", g.dir)
	}
	if g.isFrozen() {
		return groupError(unix.EBUSY, "%s is frozen: nothing could be executed in it", g.dir)
	}
	if !withoutCgroupKill {
		g.kill, _ = g.open("cgroup.kill", unix.O_WRONLY)
	}
	events, _ := readGroupFile(g.dir, "memory.events") // there may be no such controller
	g.oomKills = countOOMKills(events)
	return nil
}

// enter goes to a directory below, and makes it if it isn't there.
func (g *cgroup) enter(name string) *stepError {
	parent := g.dir
	g.dir += "/" + name
	switch err := unix.Mkdir(g.dir, 0o755); err {
	case nil:
		_ = unix.Setxattr(g.dir, madeAttribute, []byte(madeValue), 0)
	case unix.EEXIST:
		if !isMade(g.dir) {
			return nil
		}
	default:
		return groupError(err, "mkdir %s%s", g.dir, permission(err, parent))
	}
	g.made = slices.Insert(g.made, 0, g.dir)
	return nil
}

func isMade(dir string) bool {
	var value [len(madeValue)]byte
	n, err := unix.Getxattr(dir, madeAttribute, value[:])
	return err == nil && string(value[:n]) == madeValue
}

func (g *cgroup) open(name string, flags int) (int, error) {
	return unix.Openat(g.fd, name, flags|unix.O_CLOEXEC, 0)
}

// set writes an interface file, after it has enabled the controller that makes
// that file.
func (g *cgroup) set(mount, name, value string) *stepError {
	file := g.dir + "/" + name
	if unix.Access(file, unix.F_OK) != nil {
		controller, _, _ := strings.Cut(name, ".")
		if err := g.enable(mount, controller, name); err != nil {
			return err
		}
	}
	fd, err := g.open(name, unix.O_WRONLY)
	if err != nil {
		if err == unix.ENOENT && unix.Access(g.dir+"/cgroup.procs", unix.F_OK) == nil {
			return finally(err, "open %s (no such setting)", file)
		}
		return groupError(err, "open %s%s", file, permission(err, g.dir))
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return groupError(err, "write %q to %s", value, file)
	}
	return nil
}

// enable hands a controller down to our directory.
func (g *cgroup) enable(mount, controller, name string) *stepError {
	for dir := mount; dir != g.dir; {
		text, err := readGroupFile(dir, "cgroup.controllers")
		if err != nil {
			return groupError(err, "read %s/cgroup.controllers", dir)
		}
		if available := strings.Fields(text); !slices.Contains(available, controller) {
			return finally(unix.ENOENT, "%s: controller %q is not available in %s, which has: %s (see docs/cgroups.md)",
				name, controller, dir, cmp.Or(strings.Join(available, " "), "none"))
		}
		enabled, err := readGroupFile(dir, "cgroup.subtree_control")
		if err != nil {
			return groupError(err, "read %s/cgroup.subtree_control", dir)
		}
		if !slices.Contains(strings.Fields(enabled), controller) {
			control := dir + "/cgroup.subtree_control"
			if err := writeFileAt(control, "+"+controller); err != nil {
				what := permission(err, dir)
				if err == unix.EBUSY {
					what = " (" + dir + " has processes of its own: only one without may hand controllers down)"
				}
				return groupError(err, "%s: write +%s to %s%s", name, controller, control, what)
			}
		}
		next, _, _ := strings.Cut(strings.TrimPrefix(g.dir, dir+"/"), "/")
		dir += "/" + next
	}
	return nil
}

func writeFileAt(file, text string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

func readGroupFile(dir, name string) (string, error) {
	fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if n == 0 {
			return string(all), nil
		}
		all = append(all, buf[:n]...)
	}
}

// joinError explains why a program could not be born in its group.
func (g *cgroup) joinError(errno unix.Errno) error {
	what := ""
	switch errno {
	case unix.EACCES, unix.EPERM:
		what = " (moving there from our own cgroup takes write access to cgroup.procs of both and of what they have in common, see docs/cgroups.md)"
	case unix.EBUSY:
		what = " (it hands controllers down: then it may have no processes of its own)"
	case unix.EOPNOTSUPP:
		what = " (a threaded domain takes threads, not processes)"
	case unix.EAGAIN:
		what = " (pids.max is reached)"
	}
	return groupError(errno, "start a process in %s%s", g.dir, what)
}

// forked lets go of what only the fork needs.
func (g *cgroup) forked() {
	for _, fd := range []*int{&g.fd, &g.events, &g.kill} {
		if *fd >= 0 {
			*fd, _ = lasting(*fd)
		}
	}
	_ = unix.Close(g.procs)
	g.procs = -1
}

// signal signals all processes of the group and of those below it. Each is
// known twice by its number and in between by a pidfd, so nobody else is hit.
func (g *cgroup) signal(sig unix.Signal) unix.Errno {
	if sig == unix.SIGKILL && g.kill >= 0 {
		switch _, err := unix.Write(g.kill, []byte("1")); err {
		case nil:
			return 0
		case unix.ENODEV:
			return unix.ESRCH // somebody has removed it
		}
	}
	// Not by its path, where another may be by now.
	dir := "/proc/self/fd/" + strconv.Itoa(g.fd)
	pidfds := make(map[int]int)
	for _, pid := range processesOf(dir) {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			pidfds[pid] = fd
		}
	}
	errno := unix.ESRCH
	for _, pid := range processesOf(dir) {
		if fd, known := pidfds[pid]; known {
			err := unix.PidfdSendSignal(fd, sig, nil, 0)
			if e, _ := err.(unix.Errno); errno != 0 && e != unix.ESRCH {
				errno = e
			}
		}
	}
	for _, fd := range pidfds {
		_ = unix.Close(fd)
	}
	return errno
}

// isFrozen tells whether the group, or one above it, is frozen or will be.
func (g *cgroup) isFrozen() bool {
	text, _ := readGroupFile(g.dir, "cgroup.freeze")
	events, _ := g.readEvents()
	return strings.TrimSpace(text) == "1" || bytes.Contains(events, []byte("frozen 1"))
}

// thaw makes frozen processes able to take a signal.
func (g *cgroup) thaw() {
	if text, err := readGroupFile(g.dir, "cgroup.freeze"); err == nil && strings.TrimSpace(text) == "1" {
		_ = writeFileAt(g.dir+"/cgroup.freeze", "0")
	}
}

// isEmpty tells whether no process is left in the group, nor below it. After
// that the events file is readable (EPOLLPRI) when this may have changed.
func (g *cgroup) isEmpty() bool {
	text, err := g.readEvents()
	return err == unix.ENODEV || bytes.Contains(text, []byte("populated 0"))
}

func (g *cgroup) readEvents() ([]byte, error) {
	var text [256]byte
	n, err := unix.Pread(g.events, text[:], 0)
	return text[:max(n, 0)], err
}

// processesOf lists the processes of a group and of those below it.
func processesOf(dir string) []int {
	text, err := readGroupFile(dir, "cgroup.procs")
	if err != nil {
		return nil
	}
	pids := parsePIDs([]byte(text))
	for _, name := range groupsBelow(dir) {
		pids = append(pids, processesOf(dir+"/"+name)...)
	}
	return pids
}

// groupsBelow lists the directories in that of a group, which are its only
// entries with a link count above 1.
func groupsBelow(dir string) []string {
	names, _ := entries(dir)
	return slices.DeleteFunc(names, func(name string) bool {
		var st unix.Stat_t
		return unix.Lstat(dir+"/"+name, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR
	})
}

// countOOMKills finds that in the text of memory.events.
func countOOMKills(events string) uint64 {
	for line := range strings.Lines(events) {
		if number, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			n, _ := strconv.ParseUint(number, 10, 64)
			return n
		}
	}
	return 0
}

// lastFiles are what is worth knowing after the end.
var lastFiles = []string{"memory.events", "memory.peak", "memory.swap.peak", "cpu.stat", "pids.peak", "pids.events",
	"io.stat", "cpu.pressure", "memory.pressure", "io.pressure"}

// conclude fills in what the group tells of its program.
func (g *cgroup) conclude(e *wire.Exited) {
	e.Cgroup = nil
	for _, name := range lastFiles {
		text, err := readGroupFile(g.dir, name)
		if err != nil || strings.ContainsRune(text, 0) {
			continue
		}
		e.Cgroup = append(e.Cgroup, name, text)
	}
	e.Usage.MaxRSS = ^uint64(0)
	var oomKills uint64
	for i := 0; i < len(e.Cgroup); i += 2 {
		switch name, text := e.Cgroup[i], e.Cgroup[i+1]; name {
		case "memory.events":
			oomKills = countOOMKills(text)
		case "cpu.stat":
			e.Usage.SetCgroupTimes(text)
		case "memory.peak":
			if n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64); err == nil {
				e.Usage.MaxRSS = n
			}
		}
	}
	// Whoever handles the death of a member well has not died of it.
	if e.Reason == wire.ReasonOwn && (e.Signal == int32(unix.SIGKILL) || e.Code > 0) && oomKills > g.oomKills {
		e.Reason = wire.ReasonOOM
	}
}

// discard removes what was made, as far as it is empty, and closes the rest.
func (g *cgroup) discard() {
	for _, fd := range []int{g.procs, g.events, g.kill} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if len(g.made) > 0 && g.made[0] == g.dir {
		removeBelow(g.dir)
	}
	for _, dir := range g.made {
		if unix.Rmdir(dir) != nil {
			break // in use by somebody else
		}
	}
	// At last, as until then nobody else may take it for a leftover.
	if g.fd >= 0 {
		_ = unix.Close(g.fd)
	}
}

// removeBelow removes the groups that the program has made in its own.
func removeBelow(dir string) {
	for _, name := range groupsBelow(dir) {
		removeBelow(dir + "/" + name)
		_ = unix.Rmdir(dir + "/" + name)
	}
}

func openLocked(dir string, how int) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for {
		if err = unix.Flock(fd, how); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// searched are the bases that removeLeftovers has seen to.
var searched sync.Map

// removeLeftovers removes the fresh groups of shepherds that were killed: those
// that nobody has locked. What is in them is dead or about to be killed, by a
// guardian; so it is here. Once for each base is enough, as ours are removed.
func removeLeftovers(base string) {
	if _, done := searched.LoadOrStore(base, true); done {
		return
	}
	lock, err := openLocked(base, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		searched.Delete(base) // somebody is about to make one
		return
	}
	defer unix.Close(lock)
	for _, name := range groupsBelow(base) {
		if strings.HasPrefix(name, freshPrefix) && isMade(base+"/"+name) {
			removeLeftover(base + "/" + name)
		}
	}
}

func removeLeftover(dir string) {
	fd, err := openLocked(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // its shepherd lives
	}
	g := &cgroup{dir: dir, fd: fd, procs: -1, events: -1, kill: -1, made: []string{dir}}
	defer g.discard()
	if g.events, err = g.open("cgroup.events", unix.O_RDONLY); err != nil {
		return
	}
	g.kill, _ = g.open("cgroup.kill", unix.O_WRONLY)
	for deadline := now() + int64(time.Second); !g.isEmpty() && now() < deadline; {
		g.signal(unix.SIGKILL)
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(g.events), Events: unix.POLLPRI}}, 10)
	}
}

// cgroupMount finds where cgroup2 is mounted: the first place in the list of
// mounts that still is what that says.
func cgroupMount() (string, error) {
	text, err := readGroupFile("/proc/self", "mountinfo")
	if err != nil {
		return "", groupError(err, "read /proc/self/mountinfo")
	}
	hidden := ""
	for line := range strings.Lines(text) {
		// 36 35 98:0 /root /mount/point options [optional]... - type source options
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		dir := unescapeMount(fields[4])
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
		hidden = dir
	}
	if hidden != "" {
		return "", groupError(unix.ENODEV, "%s was cgroup2, but something else is mounted over it", hidden)
	}
	return "", groupError(unix.ENODEV, "no cgroup2 file system is mounted (see docs/cgroups.md)")
}

// unescapeMount undoes the octal escapes of mountinfo: space, tab, newline, backslash.
func unescapeMount(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}

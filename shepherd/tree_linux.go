// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The tree of a program is found by its lineage mark, a number that the kernel
// hands down through fork(2), execve(2) and setsid(2), whatever a process does
// to its environment and descriptors: the soft limit of RLIMIT_LOCKS, which
// Linux has not looked at since 2.6. See docs/containment.md.
//
// All that a program has left behind are children of this process, which is
// their subreaper, or descendants of those. So nothing else is ever looked at:
// neither the programs that run, nor the rest of /proc.

// unmarked is the mark of a process that has none, or is gone.
const unmarked = 0

// markOf reads the mark of a process.
func markOf(pid int) uint64 {
	var limit unix.Rlimit
	switch err := unix.Prlimit(pid, unix.RLIMIT_LOCKS, nil, &limit); err {
	case nil:
	case unix.EPERM:
		limit.Cur = markInLimits(readAll("/proc/" + strconv.Itoa(pid) + "/limits")) // a setuid program
	default:
		return unmarked
	}
	if limit.Cur < firstMark || limit.Cur == unix.RLIM_INFINITY {
		return unmarked
	}
	return limit.Cur
}

// firstMark is above every limit that somebody might have set in earnest.
const firstMark = 1 << 40

// markInLimits finds the mark in the text of /proc/PID/limits.
func markInLimits(text []byte) uint64 {
	_, rest, _ := bytes.Cut(text, []byte("\nMax file locks"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return unmarked
	}
	mark, err := strconv.ParseUint(string(fields[0]), 10, 64)
	if err != nil {
		return unmarked
	}
	return mark
}

// childrenOf lists the children of a process, also of its threads.
func childrenOf(pid int) []int {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	var pids []int
	for _, thread := range entries(dir) {
		pids = append(pids, parsePIDs(readAll(dir+"/"+thread+"/children"))...)
	}
	return pids
}

// orphans are the children of this process that it did not fork: those that
// the kernel gave to the main thread, as the workers fork the programs.
func orphans() []int {
	return parsePIDs(readAll(orphansFile))
}

var orphansFile = "/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children"

func parsePIDs(text []byte) []int {
	var pids []int
	for _, field := range bytes.Fields(text) {
		if pid, err := strconv.Atoi(string(field)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// entries lists a directory.
func entries(dir string) []string {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			return names
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// readAll reads a file of /proc; nothing if it is gone.
func readAll(path string) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return all
		}
		all = append(all, buf[:n]...)
	}
}

// parentOf is a process's parent and whether it is a zombie: 0 if it is gone.
func parentOf(pid int) (parent int, zombie bool) {
	stat := readAll("/proc/" + strconv.Itoa(pid) + "/stat")
	// The name, in parentheses, may contain anything.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, false
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 2 {
		return 0, false
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return parent, fields[0][0] == 'Z' || fields[0][0] == 'X'
}

// hunt is one pass over the descendants of this process, with a signal for
// those that belong to some programs.
type hunt struct {
	signal unix.Signal

	// belongs tells whether an orphan with that mark is to be hit. Marks that
	// no shepherd's program has, or another shepherd's, are unmarked.
	belongs func(mark uint64) bool
	ours    func(mark uint64) bool

	roots      []int           // processes whose descendants are hit as well
	skipGroups map[int]bool    // process groups that have got the signal already
	found      map[uint64]bool // the marks of what there was to hit, zombies too
	hits       int
	seen       map[int]bool
}

// run hits the orphans that belong, and all below them.
func (h *hunt) run() {
	h.found = make(map[uint64]bool)
	h.seen = make(map[int]bool)
	for _, pid := range orphans() {
		if mark := h.mark(pid); h.belongs(mark) {
			h.found[mark] = true
			h.hit(pid, os.Getpid())
		}
	}
	for _, root := range h.roots {
		for _, pid := range childrenOf(root) {
			h.hit(pid, root)
		}
	}
}

func (h *hunt) mark(pid int) uint64 {
	if mark := markOf(pid); h.ours(mark) {
		return mark
	}
	return unmarked
}

// hit signals a process, which was found as a child of parent, and all below
// it, whatever their marks.
func (h *hunt) hit(pid, parent int) {
	if h.seen[pid] {
		return
	}
	h.seen[pid] = true
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it is gone
	}
	defer unix.Close(fd)
	// Before that its number may have become somebody else's: then it has
	// another parent, or is one of our own programs.
	now, zombie := parentOf(pid)
	switch {
	case now == parent && parent != os.Getpid():
	case now == os.Getpid() && h.belongs(h.mark(pid)):
	default:
		return
	}
	below := childrenOf(pid)
	if group, err := unix.Getpgid(pid); !zombie && (err != nil || !h.skipGroups[group]) {
		h.hits++
		_ = unix.PidfdSendSignal(fd, h.signal, nil, 0)
	}
	for _, child := range below {
		h.hit(child, pid)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
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
		text, _ := readAll("/proc/" + strconv.Itoa(pid) + "/limits") // a setuid program
		limit.Cur = markInLimits(text)
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

// childrenOf lists the children of a process, also of its threads. sure is
// false when there may be more, because we could not look.
func childrenOf(pid int) (pids []int, sure bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, sure := entries(dir)
	for _, thread := range threads {
		list, ok := readAll(dir + "/" + thread + "/children")
		pids = append(pids, parsePIDs(list)...)
		sure = sure && ok
	}
	return pids, sure
}

// childList opens the list of a thread's children. It stays open: there must be
// no lack of descriptors when it is read.
func childList(thread int) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/self/task/%d/children", thread), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// readList reads an open list of children. sure is false when there may be
// more, because we could not look.
func readList(fd int) (pids []int, sure bool) {
	list, sure := readFrom(fd)
	return parsePIDs(list), sure
}

func parsePIDs(text []byte) []int {
	var pids []int
	for _, field := range bytes.Fields(text) {
		if pid, err := strconv.Atoi(string(field)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// entries lists a directory of /proc; nothing if it is gone. sure is false when
// we could not look.
func entries(dir string) (names []string, sure bool) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, !isShortage(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			return names, !isShortage(err)
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// readAll reads a file of /proc; nothing if it is gone. sure is false when we
// could not look.
func readAll(path string) (all []byte, sure bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, !isShortage(err)
	}
	defer unix.Close(fd)
	return readFrom(fd)
}

// readFrom reads an open file of /proc from its beginning.
func readFrom(fd int) (all []byte, sure bool) {
	buf := make([]byte, 4096)
	for {
		n, err := unix.Pread(fd, buf, int64(len(all)))
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return all, !isShortage(err)
		}
		all = append(all, buf[:n]...)
		if n < len(buf)-longestLine {
			return all, true // there was room for more
		}
	}
}

// longestLine is more than the longest in any file of /proc that is read here.
const longestLine = 1024

// isShortage tells an error that says nothing about the file.
func isShortage(err error) bool {
	return err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOMEM
}

// parentOf is a process's parent and whether it is a zombie: 0 if it is gone.
func parentOf(pid int) (parent int, zombie bool) {
	stat, _ := readAll("/proc/" + strconv.Itoa(pid) + "/stat")
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
	// no program of ours has had are unmarked.
	belongs func(mark uint64) bool
	ours    func(mark uint64) bool

	adopted int // the list of the children that the kernel gave us

	// The lists of the threads that fork. Beside the programs themselves they
	// have strangers, which those made with CLONE_PARENT. Where left, which takes
	// out what we have forked, is not sure, what is unmarked may be a program that
	// is just being made.
	forked    []int
	left      func(pids []int) (rest []int, sure bool)
	strangers []int // seen

	roots      []int              // processes whose descendants are hit as well
	skipGroups map[int]bool       // process groups that have got the signal already
	onlyGroup  int                // unless 0, the process group that is to get it
	groups     map[uint64]*cgroup // by mark: those that can't be killed by one write
	hunted     map[uint64]bool    // marks, for swept
	found      map[uint64]bool    // the marks of what there was to hit, zombies too
	lost       bool               // there is what has no mark, and was not hit
	unsure     bool               // there may have been more, but we could not look
	hits       int
	seen       map[int]bool
}

// run hits the orphans that belong, and all below them.
func (h *hunt) run() {
	h.found = make(map[uint64]bool)
	h.seen = make(map[int]bool)
	for mark, group := range h.groups {
		if group.signal(h.signal) == 0 {
			h.found[mark] = true
			h.hits++
		}
	}
	pids, sure := readList(h.adopted)
	h.unsure = !sure
	pids, _ = h.left(pids)
	for _, pid := range pids {
		h.consider(pid, true)
	}
	for _, list := range h.forked {
		pids, sure := readList(list)
		pids, settled := h.left(pids)
		h.unsure = h.unsure || !sure
		for _, pid := range pids {
			h.consider(pid, settled)
		}
		h.strangers = append(h.strangers, pids...)
	}
	h.runBelow()
}

// runBelow hits all below the roots.
func (h *hunt) runBelow() {
	for _, root := range h.roots {
		pids, _ := childrenOf(root)
		for _, pid := range pids {
			h.hit(pid, root)
		}
	}
}

// signalBelow signals the members of a process group below a process of ours.
func signalBelow(root, group int, signal unix.Signal) unix.Errno {
	h := hunt{signal: signal, roots: []int{root}, onlyGroup: group, seen: make(map[int]bool)}
	h.runBelow()
	if h.hits == 0 {
		return unix.ESRCH
	}
	return 0
}

// consider hits a child of ours if it belongs. What is unmarked is left for
// later where it is not settled what it is.
func (h *hunt) consider(pid int, settled bool) {
	mark := h.mark(pid)
	if mark == unmarked {
		// A list leaves entries out when one that it has just shown is reaped.
		// That one is gone, and has no mark.
		if parent, _ := parentOf(pid); parent == 0 || !settled {
			h.unsure = true
			return
		}
	}
	if h.belongs(mark) {
		h.found[mark] = true
		h.hit(pid, os.Getpid())
	} else if mark == unmarked {
		h.lost = true
	}
}

// concerns tells whether members of a process group are to get the signal.
func (h *hunt) concerns(group int, err error) bool {
	if h.onlyGroup > 0 {
		return err == nil && group == h.onlyGroup
	}
	return err != nil || !h.skipGroups[group]
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
		h.unsure = h.unsure || isShortage(err)
		return // it is gone
	}
	// Before that its number may have become somebody else's: then it has
	// another parent, or is one of our own programs.
	now, zombie := parentOf(pid)
	var below []int
	if now == parent && parent != os.Getpid() || now == os.Getpid() && h.belongs(h.mark(pid)) {
		below, _ = childrenOf(pid)
		if group, err := unix.Getpgid(pid); !zombie && h.concerns(group, err) {
			h.hits++
			_ = unix.PidfdSendSignal(fd, h.signal, nil, 0)
		}
	}
	_ = unix.Close(fd) // now: a tree may be deep
	for _, child := range below {
		h.hit(child, pid)
	}
}

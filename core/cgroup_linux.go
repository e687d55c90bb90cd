// SPDX-License-Identifier: Apache-2.0

package core

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// CgroupGet reads a file of the program's cgroup. After the end it is what the
// shepherd has found there, if that was of lasting interest.
func (p *Process) CgroupGet(file string) (string, error) {
	if err := checkCgroupFile(file); err != nil {
		return "", err
	}
	dir, err := p.cgroup()
	if err != nil {
		return "", err
	}
	if dir == "" {
		return p.lastOfCgroup(file)
	}
	text, err := readWhole(dir + "/" + file)
	if err == unix.ENOENT || err == unix.ENODEV {
		// The cgroup may have gone just now, and what it was be known.
		if p.Poll().Phase == Ended {
			return p.lastOfCgroup(file)
		}
	}
	if err != nil {
		return "", failed(err, "read %s/%s", dir, file)
	}
	return string(text), nil
}

// CgroupSet writes a file of the cgroup of a program that runs.
func (p *Process) CgroupSet(file, value string) error {
	if err := checkCgroupFile(file); err != nil {
		return err
	}
	dir, err := p.cgroup()
	if err != nil {
		return err
	}
	if dir == "" {
		return &Error{unix.ENOENT, "the program has ended"}
	}
	fd, err := unix.Open(dir+"/"+file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed(err, "open %s/%s", dir, file)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return failed(err, "write %q to %s/%s", value, dir, file)
	}
	return nil
}

// cgroup is the directory of the program's cgroup, "" after its end.
func (p *Process) cgroup() (string, error) {
	state := p.Poll()
	switch {
	case state.Phase == Starting:
		return "", &Error{unix.EAGAIN, "the program has not been executed yet"}
	case state.Cgroup == "":
		return "", &Error{unix.ENOENT, "the program has no cgroup of its own"}
	case state.Phase != Running:
		return "", nil
	}
	return state.Cgroup, nil
}

func (p *Process) lastOfCgroup(file string) (string, error) {
	known := p.Poll().Exit.Cgroup
	for i := 0; i+1 < len(known); i += 2 {
		if known[i] == file {
			return known[i+1], nil
		}
	}
	return "", &Error{unix.ENOENT, file + ": not known after the program's end"}
}

// readCgroupUsage fills in what a cgroup tells of a running program's tree.
func readCgroupUsage(dir string, u *Usage) {
	if text, err := readWhole(dir + "/cpu.stat"); err == nil {
		u.SetCgroupTimes(string(text))
	}
	number := func(file string, to *uint64) {
		if text, err := readWhole(dir + "/" + file); err == nil {
			if n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64); err == nil {
				*to = n
			}
		}
	}
	u.MaxRSS = unknown
	number("memory.peak", &u.MaxRSS)
	number("memory.current", &u.Memory)
	if n, ok := countProcesses(dir); ok {
		u.Processes = n
	}
}

// countProcesses counts those of a cgroup and of all below it.
func countProcesses(dir string) (uint64, bool) {
	text, err := readWhole(dir + "/cgroup.procs")
	if err != nil {
		return 0, false
	}
	count := uint64(bytes.Count(text, []byte("\n")))
	for _, name := range subdirectories(dir) {
		if n, ok := countProcesses(dir + "/" + name); ok {
			count += n
		}
	}
	return count, true
}

func subdirectories(dir string) (names []string) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var all []string
	for buf := make([]byte, 4096); ; {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			break
		}
		_, _, all = unix.ParseDirent(buf[:n], -1, all)
	}
	for _, name := range all {
		var st unix.Stat_t
		if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			names = append(names, name)
		}
	}
	return names
}

// readWhole reads a file without package os, see readFile.
func readWhole(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
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
			return nil, err
		}
		if n == 0 {
			return all, nil
		}
		all = append(all, buf[:n]...)
	}
}

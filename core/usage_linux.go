// SPDX-License-Identifier: Apache-2.0

package core

import (
	"bytes"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on
// every architecture that Go knows.
const clockTick = uint64(time.Second / 100)

// readUsage fills in what /proc tells of a running process.
func readUsage(pid int, u *wire.Usage) {
	dir := "/proc/" + strconv.Itoa(pid)
	var buf [4096]byte

	// The name, in parentheses, may contain anything: fields are counted from
	// the last parenthesis, which is before field 3 of proc_pid_stat(5).
	stat := readFile(dir+"/stat", buf[:])
	if end := bytes.LastIndexByte(stat, ')'); end >= 0 {
		fields := bytes.Fields(stat[end+1:])
		field := func(number int) (uint64, bool) {
			if number-3 >= len(fields) {
				return 0, false
			}
			v, err := strconv.ParseUint(string(fields[number-3]), 10, 64)
			return v, err == nil
		}
		sum := func(to *uint64, unit uint64, a, b int) {
			own, ok := field(a)
			waited, okWaited := field(b)
			if ok && okWaited {
				*to = (own + waited) * unit
			}
		}
		sum(&u.MinorFaults, 1, 10, 11)
		sum(&u.MajorFaults, 1, 12, 13)
		sum(&u.User, clockTick, 14, 16)
		sum(&u.System, clockTick, 15, 17)
	}

	status := readFile(dir+"/status", buf[:])
	for line := range bytes.Lines(status) {
		if peak, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			kib, err := strconv.ParseUint(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(peak), []byte("kB")))), 10, 64)
			if err == nil {
				u.MaxRSS = kib << 10
			}
		}
	}
}

// readFile reads what fits, and nothing when the file can't be read. It does
// without package os, whose files start a poller in the host.
func readFile(path string, buf []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

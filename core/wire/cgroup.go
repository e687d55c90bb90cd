// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strconv"
	"strings"
)

// IsCgroupName tells whether a text is the name of a directory or of a file in a
// cgroup, and of nothing else.
func IsCgroupName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsRune(name, '/')
}

// isCgroupPath tells whether a text is a path below where cgroup2 is mounted, or
// empty.
func isCgroupPath(path string) bool {
	for _, name := range strings.Split(path, "/") {
		if path != "" && !IsCgroupName(name) {
			return false
		}
	}
	return true
}

// SetCgroupTimes fills in the processor times in the text of a cgroup's
// cpu.stat.
func (u *Usage) SetCgroupTimes(stat string) {
	for line := range strings.Lines(stat) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		us, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "user_usec":
			u.User = us * 1000
		case "system_usec":
			u.System = us * 1000
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strconv"
	"strings"
)

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

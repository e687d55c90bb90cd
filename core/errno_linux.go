// SPDX-License-Identifier: Apache-2.0

package core

import "golang.org/x/sys/unix"

const (
	errNoShepherd   = unix.ENOPKG     // there is no usable shepherd
	errShepherdDied = unix.EOWNERDEAD // there was one
)

// SPDX-License-Identifier: Apache-2.0

package wire

import "golang.org/x/sys/unix"

const (
	msgNoSignal = unix.MSG_NOSIGNAL
	msgCloexec  = unix.MSG_CMSG_CLOEXEC
)

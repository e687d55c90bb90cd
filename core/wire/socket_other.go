// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package wire

const (
	msgNoSignal = 0
	msgCloexec  = 0
)

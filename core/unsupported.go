// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package core

import (
	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// Programs run on Linux only. Elsewhere this package compiles, so that tools
// work on it, and says ENOSYS.

const (
	rlimitCount     = 16
	errNoShepherd   = unix.ENOEXEC
	errShepherdDied = unix.EPIPE
)

type identity struct{}

func currentIdentity() identity              { return identity{} }
func (*identity) equal(*identity) bool       { return true }
func hostPIDFD() int                         { return -1 }
func hostNoFile() (wire.Rlimit, bool)        { return wire.Rlimit{}, false }
func killPIDFD(int)                          {}
func newPipe() ([2]int, error)               { return [2]int{-1, -1}, unix.ENOSYS }
func setPipeSize(int, int) error             { return unix.ENOSYS }
func setNonblock(int) error                  { return unix.ENOSYS }
func newSocketPair() ([2]int, error)         { return [2]int{-1, -1}, unix.ENOSYS }
func openDirectory(string) (int, error)      { return -1, unix.ENOSYS }
func openPTY() (int, int, error)             { return -1, -1, unix.ENOSYS }
func setUpTerminal(int, int, *Options) error { return unix.ENOSYS }
func readUsage(int, *wire.Usage)             {}
func readCgroupUsage(string, *Usage)         {}

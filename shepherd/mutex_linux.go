// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mutex is a sync.Mutex whose waiters sleep in futex(2). A goroutine that owns
// its thread, as all of ours do, and waits for a sync.Mutex puts that thread to
// sleep, wakes another for its processor, and is itself woken by way of a third.
type mutex struct {
	state atomic.Uint32 // free, held, or contended: held, and there may be waiters
}

const (
	free = iota
	held
	contended
)

// Of <linux/futex.h>.
const (
	futexWaitPrivate = 128
	futexWakePrivate = 129
)

func (m *mutex) Lock() {
	if m.state.CompareAndSwap(free, held) {
		return
	}
	for m.state.Swap(contended) != free {
		// EAGAIN: it has changed. The runtime must be able to stop us meanwhile,
		// so this is no RawSyscall.
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, m.address(), futexWaitPrivate, contended, 0, 0, 0)
	}
}

func (m *mutex) Unlock() {
	switch m.state.Swap(free) {
	case free:
		panic("unlock of a free mutex")
	case contended:
		_, _, _ = unix.RawSyscall(unix.SYS_FUTEX, m.address(), futexWakePrivate, 1)
	}
}

func (m *mutex) address() uintptr { return uintptr(unsafe.Pointer(&m.state)) }

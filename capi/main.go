// SPDX-License-Identifier: Apache-2.0

// Command capi is the C interface of netrunner.h: a C library with a Go
// library inside. The C files start the Go runtime, move bytes and wait; the
// functions nrg_... of this file translate between C and package core.
package main

/*
#cgo CFLAGS: -std=gnu11 -O2 -Wall -Wextra -fvisibility=hidden
#include <stdlib.h>
#include <string.h>
#include "../include/netrunner.h"
#include "bridge.h"
#include "guest.h"
#include "table.h"
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/threads"
	"libnetrunner/core/wire"
)

// init gives the host its RLIMIT_NOFILE back, which package syscall has raised.
func init() {
	var soft, hard C.uint64_t
	if C.nr_guest_file_limit(&soft, &hard) {
		// syscall's function also makes it forget that it has raised it.
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(soft), Max: uint64(hard)})
	}
}

func main() {}

var runner = core.NewRunner(C.GoString(C.nr_version_string()), func(fd int) {
	C.nr_table_close_tracked(C.int(fd))
})

// processes are the processes by handle.
var processes struct {
	sync.RWMutex
	byHandle map[int64]*core.Process
}

func process(handle C.int64_t) *core.Process {
	processes.RLock()
	defer processes.RUnlock()
	return processes.byHandle[int64(handle)]
}

func forget(handle C.int64_t) *core.Process {
	processes.Lock()
	defer processes.Unlock()
	p := processes.byHandle[int64(handle)]
	delete(processes.byHandle, int64(handle))
	return p
}

// guard turns a panic, which is a bug of ours, into -EIO and a line on the
// host's standard error. No panic crosses into C.
func guard(result *C.int) {
	if bug := recover(); bug != nil {
		line := fmt.Sprintf("libnetrunner: this is a bug, please report it: %v\n", bug)
		_, _ = unix.Write(2, []byte(line))
		*result = -C.int(unix.EIO)
	}
}

// expectFaults makes a pointer of the host's that leads nowhere a panic, as nil
// does. Else it is the end of the process, and not by SIGSEGV.
func expectFaults() { debug.SetPanicOnFault(true) }

// tell writes the text of err as a C string and returns its negative errno.
func tell(err error, why *C.char, size C.size_t) C.int {
	if why != nil && size > 0 {
		text := unsafe.Slice((*byte)(unsafe.Pointer(why)), int(size))
		n := copy(text[:len(text)-1], err.Error())
		text[n] = 0
	}
	return negative(err)
}

func negative(err error) C.int {
	if err == nil {
		return 0
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return -C.int(errno)
}

// processors is how much of the runtime may be at work at once. For so much it
// has its threads from the start: it aborts the host when it needs one later,
// and there is none to be had.
const processors = 4

//export nrg_started
func nrg_started(slack C.long) {
	if runtime.GOMAXPROCS(0) > processors {
		runtime.GOMAXPROCS(processors)
	}
	threads.Make(C.NRG_SPARE_THREADS, func() { _ = threads.SetTimerSlack(int(slack)) })
	// The runtime opens its poller with the first timer, which its scavenger
	// would set at some time. Better now than as a surprise.
	time.AfterFunc(time.Hour, func() {}).Stop()
}

//export nrg_prepare
func nrg_prepare(handle C.int64_t, o *C.nr_options, shepherd *C.char, ends *C.struct_nrg_ends, why *C.char, size C.size_t) (result C.int) {
	defer guard(&result)
	expectFaults()
	options, err := convertOptions(o)
	if err != nil {
		return tell(err, why, size)
	}
	p, err := runner.Prepare(options, C.GoString(shepherd))
	if err != nil {
		return tell(err, why, size)
	}
	for i, stream := range p.Streams() {
		ends.stream[i] = C.int(stream.FD)
		ends.terminal[i] = C.bool(stream.Terminal)
	}
	ends.exit = C.int(p.Socket())
	ends.master = C.int(p.Master())

	processes.Lock()
	if processes.byHandle == nil {
		processes.byHandle = make(map[int64]*core.Process)
	}
	processes.byHandle[int64(handle)] = p
	processes.Unlock()
	ends.launch = nrg_launch(handle, &ends.socket, why, size) // saves C a crossing
	return 0
}

//export nrg_abandon
func nrg_abandon(handle C.int64_t) (result C.int) {
	defer guard(&result)
	if p := process(handle); p != nil {
		p.Abandon()
	}
	return 0
}

//export nrg_launch
func nrg_launch(handle C.int64_t, socket *C.int, why *C.char, size C.size_t) (result C.int) {
	defer guard(&result)
	need, err := process(handle).Launch()
	if err != nil {
		return tell(err, why, size)
	}
	switch need.What {
	case core.NeedShepherd:
		return C.NRG_NEED_SHEPHERD
	case core.NeedRoom:
		*socket = C.int(need.Socket)
		return C.NRG_NEED_ROOM
	}
	return 0
}

//export nrg_needs_shepherd
func nrg_needs_shepherd(handle C.int64_t) (result C.int) {
	defer guard(&result)
	if process(handle).NeedsShepherd() {
		return 1
	}
	return 0
}

//export nrg_adopt
func nrg_adopt(handle C.int64_t, control, pidfd C.int, why *C.char, size C.size_t) (result C.int) {
	defer guard(&result)
	if err := process(handle).Adopt(int(control), int(pidfd)); err != nil {
		return tell(err, why, size)
	}
	return 0
}

//export nrg_poll
func nrg_poll(handle C.int64_t, report *C.struct_nrg_report) (result C.int) {
	defer guard(&result)
	p := process(handle)
	if p == nil {
		return -C.int(unix.EBADF)
	}
	state := p.Poll()
	report.pid = C.int(state.PID)
	report.answered = C.uint32_t(state.Answered)
	report.answer_error = C.int32_t(state.AnswerErrno)
	switch state.Phase {
	case core.Starting:
		report.phase = C.NRG_STARTING
		report.greeting_ms = C.int((p.GreetingTimeout() + time.Millisecond - 1) / time.Millisecond)
	case core.Running:
		report.phase = C.NRG_RUNNING
	case core.Failed:
		report.phase = C.NRG_FAILED
		report.error = -tell(state.Failure, &report.why[0], C.NRG_WHY)
	case core.Ended:
		report.phase = C.NRG_ENDED
		report.code = C.int32_t(state.Exit.Code)
		report.signal = C.int32_t(state.Exit.Signal)
		report.reason = C.int32_t(state.Exit.Reason)
		if state.Exit.Core {
			report.core = 1
		}
		report.end_ns = C.uint64_t(state.Exit.Time)
	case core.Lost:
		report.phase = C.NRG_LOST
	}
	return 0
}

//export nrg_signal
func nrg_signal(handle C.int64_t, number C.int, sequence *C.uint32_t) (result C.int) {
	defer guard(&result)
	p := process(handle)
	if p == nil {
		return -C.int(unix.EBADF)
	}
	n, err := p.Signal(int(number))
	*sequence = C.uint32_t(n)
	return negative(err)
}

//export nrg_stop
func nrg_stop(handle C.int64_t, reason C.int) (result C.int) {
	defer guard(&result)
	p := process(handle)
	if p == nil {
		return -C.int(unix.EBADF)
	}
	return negative(p.Stop(wire.Reason(reason)))
}

//export nrg_release
func nrg_release(handle C.int64_t) (result C.int) {
	defer guard(&result)
	if p := forget(handle); p != nil {
		p.Release()
	}
	return 0
}

//export nrg_usage
func nrg_usage(handle C.int64_t, usage *C.struct_nrg_usage) (result C.int) {
	defer guard(&result)
	p := process(handle)
	if p == nil {
		return -C.int(unix.EBADF)
	}
	u := p.Usage()
	usage.user_ns = C.uint64_t(u.User)
	usage.system_ns = C.uint64_t(u.System)
	usage.memory = C.uint64_t(u.Memory)
	usage.memory_peak = C.uint64_t(u.MaxRSS)
	usage.processes = C.uint64_t(u.Processes)
	usage.minor_faults = C.uint64_t(u.MinorFaults)
	usage.major_faults = C.uint64_t(u.MajorFaults)
	usage.blocks_in = C.uint64_t(u.BlocksIn)
	usage.blocks_out = C.uint64_t(u.BlocksOut)
	usage.voluntary_switches = C.uint64_t(u.VoluntarySwitches)
	usage.involuntary_switches = C.uint64_t(u.InvoluntarySwitches)
	return 0
}

// A buffer of C for the text of a file. It is as long as it says; the length of
// the text is returned whatever it takes.
//
//export nrg_cgroup_get
func nrg_cgroup_get(handle C.int64_t, file *C.char, buf *C.char, size C.size_t, length *C.size_t) (result C.int) {
	defer guard(&result)
	p := process(handle)
	if p == nil {
		return -C.int(unix.EBADF)
	}
	expectFaults()
	text, err := p.CgroupGet(C.GoString(file))
	if err != nil {
		return negative(err)
	}
	*length = C.size_t(len(text))
	if buf != nil && size > 0 {
		to := unsafe.Slice((*byte)(unsafe.Pointer(buf)), size)
		to[copy(to[:size-1], text)] = 0
	}
	return 0
}

//export nrg_cgroup_set
func nrg_cgroup_set(handle C.int64_t, file, value *C.char) (result C.int) {
	defer guard(&result)
	p := process(handle)
	if p == nil {
		return -C.int(unix.EBADF)
	}
	expectFaults()
	return negative(p.CgroupSet(C.GoString(file), C.GoString(value)))
}

// view is a C string without a copy: it is only valid as long as that is. nil is "".
func view(s *C.char) string {
	if s == nil {
		return ""
	}
	return unsafe.String((*byte)(unsafe.Pointer(s)), length(s))
}

// length is strlen(3), which would be another crossing into C. It looks no
// further than the page in which the string ends.
func length(s *C.char) int {
	const page = 4096
	for n := 0; ; {
		at := unsafe.Add(unsafe.Pointer(s), n)
		rest := page - int(uintptr(at)%page)
		if i := bytes.IndexByte(unsafe.Slice((*byte)(at), rest), 0); i >= 0 {
			return n + i
		}
		n += rest
	}
}

// views are those of a NULL-terminated array of C strings.
func views(list **C.char) []string {
	if list == nil {
		return nil
	}
	n := 0
	for *(**C.char)(unsafe.Add(unsafe.Pointer(list), uintptr(n)*unsafe.Sizeof(*list))) != nil {
		n++
	}
	strings := make([]string, n)
	for i, s := range unsafe.Slice(list, n) {
		strings[i] = view(s)
	}
	return strings
}

func invalidOption(text string) error { return &core.Error{Errno: unix.EINVAL, Why: text} }

// convertOptions makes core's options of o, of whose strings it takes no copies.
// It checks what only C can get wrong, core the rest.
func convertOptions(o *C.nr_options) (*core.Options, error) {
	switch {
	case o.reserved0 != 0 || o.reserved != 0:
		return nil, invalidOption("reserved0, reserved: not 0")
	case o.argv == nil:
		return nil, invalidOption("argv: NULL")
	case o.file != nil && *o.file == 0:
		return nil, &core.Error{Errno: unix.ENOENT, Why: "file: empty"}
	case o.cwd != nil && *o.cwd == 0:
		return nil, &core.Error{Errno: unix.ENOENT, Why: "cwd: empty"}
	case o.cgroup_base != nil && *o.cgroup_base == 0:
		return nil, invalidOption("cgroup_base: empty")
	case o.cgroup_path != nil && *o.cgroup_path == 0:
		return nil, invalidOption("cgroup_path: empty")
	case o.fds == nil && o.nfds > 0, o.groups == nil && o.ngroups > 0, o.rlimits == nil && o.nrlimits > 0:
		return nil, invalidOption("fds, groups, rlimits: NULL, and not 0 of them")
	case o.nfds > math.MaxInt16 || o.ngroups > math.MaxInt32 || o.nrlimits > math.MaxInt16:
		return nil, invalidOption("nfds, ngroups, nrlimits: too many")
	}
	options := &core.Options{
		Flags:       core.Flags(o.flags),
		Argv:        views((**C.char)(unsafe.Pointer(o.argv))),
		File:        view(o.file),
		Env:         views((**C.char)(unsafe.Pointer(o.env))),
		Cwd:         view(o.cwd),
		Stdin:       core.Stdio{Mode: core.StdioMode(o.in.mode), FD: int(o.in.fd)},
		Stdout:      core.Stdio{Mode: core.StdioMode(o.out.mode), FD: int(o.out.fd)},
		Stderr:      core.Stdio{Mode: core.StdioMode(o.err.mode), FD: int(o.err.fd)},
		PipeSize:    int(o.pipe_size),
		Rows:        uint16(o.rows),
		Cols:        uint16(o.cols),
		Timeout:     milliseconds(o.timeout_ms),
		KillTimeout: milliseconds(o.kill_timeout_ms),
		UID:         uint32(o.uid),
		GID:         uint32(o.gid),
		Umask:       uint32(o.umask),
		Nice:        int32(o.nice),
		CgroupBase:  view(o.cgroup_base),
		CgroupPath:  view(o.cgroup_path),
		CgroupSet:   views((**C.char)(unsafe.Pointer(o.cgroup_set))),
	}
	if o.kill_timeout_ms == C.NR_KILL_NOW {
		options.KillTimeout = core.KillNow
	}
	for _, f := range unsafe.Slice(o.fds, o.nfds) {
		options.Descriptors = append(options.Descriptors, core.Descriptor{FD: int(f.fd), Target: int(f.target)})
	}
	for _, g := range unsafe.Slice(o.groups, o.ngroups) {
		options.Groups = append(options.Groups, uint32(g))
	}
	for _, r := range unsafe.Slice(o.rlimits, o.nrlimits) {
		if r.reserved != 0 {
			return nil, invalidOption("rlimits: reserved: not 0")
		}
		options.Rlimits = append(options.Rlimits, wire.Rlimit{
			Resource: int32(r.resource), Soft: uint64(r.soft), Hard: uint64(r.hard)})
	}
	return options, nil
}

// milliseconds makes a duration, the longest there is for more than that.
func milliseconds(ms C.int64_t) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(int64(ms), -most), most)) * time.Millisecond
}

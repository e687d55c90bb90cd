// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A program in a PID namespace of its own has two helpers, whose system calls
// are in the script before its own:
//
//	shepherd ── clone ──▶ founder         makes the namespaces, then ends
//	   ├◀── CLONE_PARENT ─── init         pid 1 in there; sleeps until it is killed
//	   └◀── CLONE_PARENT ─── program      pid 2
//
// So program and init are children of the shepherd, which signals and reaps
// them as any other, and the end of the init is the end of all that is in the
// namespace: the kernel kills it, and waits for it. The founder is needed
// because pid 1 may have no siblings of its own making (copy_process), and
// because a process does not enter the PID namespace that it has made.
//
// The init shares the shepherd's memory and costs none of its own. It ignores
// SIGCHLD, by which the kernel reaps the orphans of the namespace.

const whyNamespace = ", for NR_PID_NAMESPACE"

// needsUserNamespace tells whether a PID namespace takes a user namespace.
var needsUserNamespace = sync.OnceValue(func() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err != nil || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0
})

// found writes the system calls of the founder and the init; those of the
// program follow. directory, which may be -1, is the working directory.
func (s *script) found(directory int) {
	s.add("prctl PR_SET_PDEATHSIG", nil, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0)
	if needsUserNamespace() {
		s.flags |= unix.CLONE_NEWUSER
		// The program keeps its user and its group, which is all that may be
		// mapped without privilege.
		s.writeFile("/proc/self/setgroups", "deny")
		s.writeFile("/proc/self/uid_map", fmt.Sprintf("%d %[1]d 1", unix.Geteuid()))
		s.writeFile("/proc/self/gid_map", fmt.Sprintf("%d %[1]d 1", unix.Getegid()))
	}
	if directory >= 0 {
		// Before there is another mount namespace, into which the kernel then
		// takes it along.
		s.add("chdir", "to the host's working directory", unix.SYS_FCHDIR, uintptr(directory), 0, 0, 0)
	}
	s.add("unshare", "CLONE_NEWPID|CLONE_NEWNS"+whyNamespace, unix.SYS_UNSHARE, unix.CLONE_NEWPID|unix.CLONE_NEWNS, 0, 0, 0)
	s.add("mount", "/ as MS_SLAVE"+whyNamespace, unix.SYS_MOUNT, s.text("none"), s.text("/"), 0, unix.MS_REC|unix.MS_SLAVE)

	s.addClone(&s.init, unix.CLONE_VM).child = &initScript().rows[0]
	s.program.row = len(s.rows)
	s.addClone(&s.program.pid, unix.CLONE_VM|unix.CLONE_VFORK)
	s.add("exit", nil, unix.SYS_EXIT_GROUP, 0, 0, 0, 0)
	s.program.child = len(s.rows)
}

// addClone adds a clone(2) that makes a child of the shepherd.
func (s *script) addClone(pid *atomic.Int32, flags uintptr) *row {
	return s.add("clone", "of the namespace's processes"+whyNamespace, unix.SYS_CLONE,
		flags|unix.CLONE_PARENT|unix.CLONE_PARENT_SETTID|uintptr(unix.SIGCHLD), 0, uintptr(unsafe.Pointer(pid)), 0)
}

// initScript is what an init does: let go of all that it has inherited, and
// sleep. It outlives the script that made it, and all share this one. Nothing of
// that fails; if it did, the namespace would go on without.
var initScript = sync.OnceValue(func() *script {
	s := new(script)
	s.add("prctl PR_SET_PDEATHSIG", nil, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0)
	s.add("sigaction SIGCHLD", nil, unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&ignoreAction)), 0, 8)
	s.add("close_range", nil, unix.SYS_CLOSE_RANGE, 0, uintptr(^uint32(0)), 0, 0)
	s.add("setsid", nil, unix.SYS_SETSID, 0, 0, 0, 0)
	s.add("chdir", "/", unix.SYS_CHDIR, s.text("/"), 0, 0, 0)
	s.add("prctl PR_SET_NAME", nil, unix.SYS_PRCTL, unix.PR_SET_NAME, s.text("netrunner-init"), 0, 0)
	s.add("ppoll", nil, unix.SYS_PPOLL, 0, 0, 0, 0)
	// Stopped and continued, it comes back. sched_yield(2) always returns 0.
	s.add("sched_yield", nil, unix.SYS_SCHED_YIELD, 0, 0, 0, 0)
	last := len(s.rows) - 1
	s.rows[last].child = &s.rows[last-1]
	for i := range s.rows {
		s.rows[i].tolerated = ^uint64(0)
	}
	return s
})

// mountProc gives the program a /proc that shows its namespace.
func (s *script) mountProc() {
	s.add("mount", "/proc"+whyNamespace, unix.SYS_MOUNT, s.text("proc"), s.text("/proc"), s.text("proc"),
		unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
}

// writeFile writes a small file, by way of descriptor 0, which the child can do
// without: open(2) takes the lowest number, but a row can't use what another
// one has returned.
func (s *script) writeFile(path, text string) {
	s.add("close", 0, unix.SYS_CLOSE, 0, 0, 0, 0).tolerate(unix.EBADF)
	s.add("open", path+whyNamespace, unix.SYS_OPENAT, 0, s.text(path), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	s.add("write", path+whyNamespace, unix.SYS_WRITE, 0, s.text(text), uintptr(len(text)), 0)
}

// cloneStep names the clone(2) of the founder or the program.
func (s *script) cloneStep() step {
	if s.flags&unix.CLONE_NEWUSER != 0 {
		return step{"clone", "CLONE_NEWUSER" + whyNamespace + " without CAP_SYS_ADMIN"}
	}
	return step{name: "clone"}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The test binary is the shepherd of these tests, and the programs that need
// more than a shell: which one is said by argv[0].
var roles = map[string]func(){
	"shepherd": main,
	// Ways to fork without clone3(2): chosen, and found out.
	"shepherd without clone3": func() {
		withoutClone3.Store(true)
		main()
	},
	"shepherd refused clone3": func() {
		refuse(unix.SYS_CLONE3, unix.ENOSYS)
		main()
	},
	// Descriptors that a child can't take a copy of by itself, or only of all.
	"shepherd refused unshare": func() {
		refuse(unix.SYS_CLOSE_RANGE, unix.EPERM)
		refuse(unix.SYS_UNSHARE, unix.EPERM)
		main()
	},
	"shepherd refused close_range": func() {
		refuse(unix.SYS_CLOSE_RANGE, unix.ENOSYS)
		main()
	},
	// As on Linux before 5.14.
	"shepherd without cgroup.kill": func() {
		withoutCgroupKill = true
		main()
	},
}

func role() func() { return roles[os.Args[0]] }

// environment of shepherds, which have none otherwise: it keeps the race
// detector from sleeping for a second at the end of each.
var environment = []string{"GORACE=atexit_sleep_ms=0"}

func init() {
	if role() == nil {
		return
	}
	if len(os.Args) == 2 && os.Args[1] == launchArgument {
		launch()
	}
	// As in the shepherd's own executable, whose main goroutine has never been
	// on another than the main thread.
	runtime.LockOSThread()
}

// launchArgument has a shepherd become a guardian with a shepherd below it.
const launchArgument = "--launch"

// launch does what the library does for that.
func launch() {
	must(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	shepherd, err := syscall.ForkExec("/proc/self/exe", os.Args[:1], &syscall.ProcAttr{
		Env: environment, Files: []uintptr{0, 1, 2, controlSocket},
	})
	must(err)
	unix.CloseOnExec(controlSocket)
	arguments := []string{os.Args[0], guardianArgument, strconv.Itoa(shepherd)}
	must(unix.Exec("/proc/self/exe", arguments, environment))
}

func TestMain(m *testing.M) {
	if run := role(); run != nil {
		run()
		os.Exit(0)
	}
	// Whoever started the tests may have left descriptors open, which are not
	// for the shepherds of the tests.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		panic(err)
	}
	// What a shepherd leaves behind becomes our child, and is found.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	// Have the runtime open what it keeps for later.
	if err := exec.Command("true").Run(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// self is the path of the test binary.
func self(t tester) string {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	return path
}

// refuse makes a system call fail, as a container's seccomp filter does.
func refuse(number uint32, errno unix.Errno) {
	const (
		loadNumber = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jumpEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret        = unix.BPF_RET | unix.BPF_K
		retErrno   = 0x00050000
		retAllow   = 0x7fff0000
	)
	filter := []unix.SockFilter{
		{Code: loadNumber},
		{Code: jumpEqual, K: number, Jf: 1},
		{Code: ret, K: retErrno | uint32(errno)},
		{Code: ret, K: retAllow},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if os.Getuid() != 0 {
		must(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	}
	const setModeFilter, threadSync = 1, 1
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, threadSync, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		must(e)
	}
}

// must ends a helper program.
func must(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(99)
	}
}

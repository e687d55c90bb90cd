// SPDX-License-Identifier: Apache-2.0

// Command netrunner-shepherd holds the programs that a host process runs
// through libnetrunner, and kills them when they end, when the host releases
// them, or when the host dies in any way. The library starts it; nobody else
// does.
//
// Its threads are made before the first program is, and none later: under a
// process limit that a fork bomb has used up a Go program that needs another
// thread dies.
//
//	reaper    the main thread; sleeps in waitid(2), reaps what programs leave
//	          behind, see reaper_linux.go
//	ends      sleeps in epoll_wait(2) until a program ends
//	workers   one leads: it sleeps in epoll_wait(2), serves the sockets and
//	          forks. The others stand by, see lead in shepherd_linux.go
//	watch     sleeps on a timer that runs while the leader forks
//	sweeper   kills what programs leave behind, see sweep_linux.go
//
// Above it is a guardian, which is the same executable: see guardian_linux.go.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"libnetrunner/core/threads"
)

// version is set by the linker and must be that of the library.
var version = "0.0.0-dev"

// controlSocket is the descriptor that the library leaves to us.
const controlSocket = 3

// spareThreads are for what the runtime may want to do beside our own threads:
// collect garbage, hand over a processor while a thread is in a system call.
const spareThreads = 8

// processors is one for each thread of ours that is away in a system call all the
// time, and two to spare. So all find theirs when they come back, and nobody has
// to take it from a thread that is away.
const processors = 6

// slackArgument is followed by the timer slack that programs are to inherit. We are
// started with a longer one (NR_RUNTIME_SLACK in capi/guest.h): while anything happens
// the Go runtime's monitor thread wakes up every 20 us to see whether a thread is
// away for long (sysmon, in runtime/proc.go), ten times for each program. It need not.
//
// Only that thread is to be late, see prepareThreads.
const slackArgument = "--timer-slack="

// prepareThreads locks the main goroutine to its thread, and gives the runtime's
// threads, but for the monitor, the timer slack of the host again: first that one,
// as locking starts the thread that starts all others, then those few that there
// are already. They sleep for 3 us when they are about to take a goroutine from
// another processor (runqgrab, in runtime/proc.go), so until then there is one.
func prepareThreads(slack int) {
	const early = 4
	set := func() { _ = threads.SetTimerSlack(slack) }
	set()
	runtime.LockOSThread()
	threads.Make(early, set)
	runtime.GOMAXPROCS(processors)
}

// sleep sleeps on the calling thread.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("netrunner-shepherd", version)
		return
	}
	if len(os.Args) == 3 && os.Args[1] == guardianArgument {
		runtime.LockOSThread()
		shepherd, _ := strconv.Atoi(os.Args[2])
		guard(shepherd)
	}
	slack := 0
	if len(os.Args) == 2 {
		argument, _ := strings.CutPrefix(os.Args[1], slackArgument)
		slack, _ = strconv.Atoi(argument)
	}
	prepareThreads(slack)
	if err := prepare(); err != nil {
		fmt.Fprintf(os.Stderr, "netrunner-shepherd: %v\nThis program is started by libnetrunner; it is of no use by itself.\n", err)
		os.Exit(2)
	}
	s, err := newShepherd(controlSocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "netrunner-shepherd:", err)
		os.Exit(1)
	}
	s.timerSlack = slack
	if err := s.start(); err != nil {
		fmt.Fprintln(os.Stderr, "netrunner-shepherd:", err)
		os.Exit(1)
	}
	s.reap()
}

// prepare makes this process what programs inherit nothing bad from.
func prepare() error {
	kind, err := unix.GetsockoptInt(controlSocket, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return fmt.Errorf("descriptor %d is not a control socket", controlSocket)
	}
	// Nothing of what we were started with is for programs.
	unix.CloseOnExec(controlSocket)
	_ = unix.CloseRange(controlSocket+1, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	// Orphans of our programs become our children.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_CHILD_SUBREAPER: %w", err)
	}
	ignoreNothing()
	dropSignals()
	nameProcess("netrunner-shepherd")
	raiseFileLimit()
	// Have the runtime open its poller, which it does with the first timer and
	// can't do when there are no descriptors left: it would end this process.
	time.AfterFunc(time.Hour, func() {}).Stop()
	// Little is allocated and most of it lives as long as a spawn.
	debug.SetGCPercent(50)
	return nil
}

// nameProcess sets what ps(1) shows, which else is the last part of
// /proc/self/exe. The kernel keeps 15 characters.
func nameProcess(name string) {
	var text [16]byte
	copy(text[:15], name)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&text[0])), 0, 0, 0)
}

// dropSignals catches and drops the signals that end a service, which are for
// the host to obey. They are not ignored: programs would inherit that.
func dropSignals() {
	//lint:ignore SA1017 nobody receives them
	signal.Notify(make(chan os.Signal), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE)
	// The runtime handles it, to no effect but that a thread is woken.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&defaultAction)), 0, 8, 0, 0)
}

// ignoreNothing resets the signals that we were started with as ignored, which
// programs would inherit. Package os/signal does not know them all: glibc's
// posix_spawn(3) leaves 32 and 33, its own, ignored.
func ignoreNothing() {
	const sigIgn = 1
	for number := uintptr(1); number <= lastSignal; number++ {
		var action [4]uint64 // the kernel's struct sigaction, the handler first
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, number, 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
		if errno == 0 && action[0] == sigIgn {
			_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, number, uintptr(unsafe.Pointer(&defaultAction)), 0, 8, 0, 0)
		}
	}
}

// raiseFileLimit allows as many programs as the host's hard limit does. Each
// program gets the host's own soft limit back.
func raiseFileLimit() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}

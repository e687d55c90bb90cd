// SPDX-License-Identifier: Apache-2.0

// Command gohost is a host of a round of tests/chaos/chaos.c that uses the Go
// core directly, without the C interface. It takes the arguments of chaos's own
// hosts, does the same kind of things, and ends as they do: with 0, with 1 if
// something was wrong, with 77 if it can't be run here.
//
//	chaos-gohost --host SEED FAULT TAG COUNTER TALKS
package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"libnetrunner/core"
	"libnetrunner/core/wire"
)

// patience is far more than anything takes, but less than a tree lives by
// itself: treeLife seconds.
const (
	patience = 40 * time.Second
	treeLife = "59"
)

const (
	exitSkip    = 77
	maxPrograms = 10
	tagPrefix   = "tag="
)

// fault is enum fault of chaos.c. What is not named here needs nothing of us.
type fault int

const (
	none                  fault = 0
	hostExits             fault = 2
	shepherdKilled        fault = 3
	guardianKilled        fault = 4
	hostAndShepherdKilled fault = 5
	hostAndGuardianKilled fault = 6
	fewDescriptors        fault = 11
	fewProcesses          fault = 12
)

// program is a tree that was asked for. Its Process is for any goroutine, its
// descriptors are for the main one.
type program struct {
	*core.Process
	streams  [3]core.Stream
	tag      string
	lingers  bool
	isLost   bool // a part of it may outlive it
	mayFail  bool // to start
	released atomic.Bool
}

type host struct {
	random   *rand.Rand
	fault    fault
	talks    bool
	tag      string
	counter  string
	programs string // the directory of testprog and hostile
	failed   atomic.Bool

	runner    *core.Runner
	shepherds []int // guardians, to be reaped
	made      int
	mu        sync.Mutex
	trees     []*program
}

func main() {
	if len(os.Args) != 7 || os.Args[1] != "--host" {
		fmt.Fprintln(os.Stderr, "usage: chaos-gohost --host SEED FAULT TAG COUNTER TALKS")
		os.Exit(2)
	}
	seed, seedErr := strconv.ParseUint(os.Args[2], 0, 64)
	number, faultErr := strconv.Atoi(os.Args[3])
	self, selfErr := os.Executable()
	if err := errors.Join(seedErr, faultErr, selfErr); err != nil {
		fmt.Fprintln(os.Stderr, "chaos-gohost:", err)
		os.Exit(2)
	}
	h := &host{
		random: newRandom(seed), fault: fault(number), tag: strings.TrimPrefix(os.Args[4], tagPrefix),
		counter: os.Args[5], talks: os.Args[6] == "1", programs: filepath.Dir(self),
	}
	for _, file := range []string{h.testprog(), h.hostile(), h.shepherdPath()} {
		if unix.Access(file, unix.X_OK) != nil {
			os.Exit(exitSkip)
		}
	}
	makeThreads(8)
	// And its poller, which takes descriptors, with the first timer.
	time.AfterFunc(time.Hour, func() {}).Stop()
	h.runner = core.NewRunner(version, func(fd int) { _ = unix.Close(fd) })
	h.run()
	os.Exit(h.status())
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func chance(random *rand.Rand, percent int) bool { return random.IntN(100) < percent }

// makeThreads has the runtime make threads ahead: under a limit of processes a
// Go program that needs another one dies.
func makeThreads(n int) {
	var running, done sync.WaitGroup
	running.Add(n)
	for range n {
		done.Go(func() {
			runtime.LockOSThread()
			running.Done()
			running.Wait()
			runtime.UnlockOSThread()
		})
	}
	done.Wait()
}

func (h *host) fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "  Go host %d (fault %d): %s\n", os.Getpid(), h.fault, fmt.Sprintf(format, args...))
	h.failed.Store(true)
}

func (h *host) status() int {
	if h.failed.Load() {
		return 1
	}
	return 0
}

func (h *host) shepherdMayDie() bool {
	return h.fault >= shepherdKilled && h.fault <= hostAndGuardianKilled
}

// explains tells which errors the fault explains.
func (h *host) explains(err error) bool {
	switch h.fault {
	case shepherdKilled, guardianKilled, hostAndShepherdKilled, hostAndGuardianKilled:
		return errors.Is(err, unix.EOWNERDEAD)
	case fewDescriptors:
		return errors.Is(err, unix.EMFILE)
	case fewProcesses:
		// The last one where a shepherd of its own can't have its threads.
		return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOPKG)
	}
	return false
}

func (h *host) run() {
	h.getWarm()
	descriptors, goroutines := len(openFiles()), runtime.NumGoroutine()
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		h.fail("getrlimit: %v", err)
	}
	setFiles := func(soft uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: soft, Max: files.Max}); err != nil {
			h.fail("setrlimit: %v", err)
		}
	}
	if h.fault == fewDescriptors {
		setFiles(uint64(descriptors + h.random.IntN(20)))
	}
	h.work()
	setFiles(files.Cur) // to look into /proc takes some
	for _, p := range h.trees {
		h.finish(p)
	}
	if h.fault == hostExits {
		return // what it has released is not gone yet
	}
	if !eventually(func() bool { return len(census(h.tag)) == 0 }) {
		h.fail("after the release of all there are\n%s", strings.Join(census(h.tag), "\n"))
	}
	if h.fault == fewDescriptors {
		h.fault = none
	}
	h.getWarm()
	if !eventually(func() bool { return len(openFiles()) <= descriptors }) {
		h.fail("%d descriptors before, and now\n%s", descriptors, strings.Join(openFiles(), "\n"))
	}
	if !eventually(func() bool { return runtime.NumGoroutine() <= goroutines }) {
		stacks := make([]byte, 1<<16)
		h.fail("%d goroutines before, and now\n%s", goroutines, stacks[:runtime.Stack(stacks, true)])
	}
}

// work does random things, and returns when nobody meddles any more.
func (h *host) work() {
	steps := 3 + h.random.IntN(15)
	meddles := chance(h.random, 30) && h.fault != fewProcesses
	random := newRandom(h.random.Uint64())
	var over atomic.Bool
	var meddler sync.WaitGroup
	if meddles {
		meddler.Go(func() {
			for ; !over.Load(); time.Sleep(time.Millisecond) {
				h.doSomething(random)
			}
		})
	}
	for range steps {
		switch what := h.random.IntN(100); {
		case what < 45:
			h.startTree()
		case what < 60:
			h.runCopy()
		case what < 65:
			h.failToStart()
		case what < 70:
			time.Sleep(time.Duration(h.random.IntN(20)) * time.Millisecond)
		default:
			h.doSomething(h.random)
			h.useStreams()
		}
		if h.fault == hostExits && h.random.IntN(steps) == 0 {
			os.Exit(h.status())
		}
	}
	over.Store(true)
	meddler.Wait()
}

// getWarm brings core to the state that it is in between programs: what has
// died is noticed by a spawn, and let go.
func (h *host) getWarm() {
	for range 3 {
		isWarm := true
		for range 2 {
			p, err := h.spawn(&core.Options{Argv: []string{h.testprog(), "exit", "0"}})
			if err == nil {
				_, err = p.wait(patience)
				p.release()
			}
			if err != nil && !h.explains(err) {
				h.fail("the first program: %v", err)
			}
			isWarm = isWarm && err == nil
		}
		if isWarm {
			break
		}
	}
	h.reap()
}

func (h *host) startTree() {
	if len(h.trees) == maxPrograms {
		return
	}
	random := h.random
	tree := randomTree(random)
	tag := fmt.Sprintf("%s%02x", h.tag, h.made&0xff)
	h.made++
	o := &core.Options{
		File: h.hostile(),
		Argv: []string{"hostile", "-c", h.counter, tag, treeLife, tree},
		KillTimeout: []time.Duration{core.KillNow, 20 * time.Millisecond, 100 * time.Millisecond,
			300 * time.Millisecond}[random.IntN(4)],
	}
	for _, may := range []struct {
		flag    core.Flags
		percent int
	}{
		{core.Linger, 10}, {core.Session, 10}, {core.PTY, 10}, {core.OwnShepherd, 10}, {core.PIDNamespace, 10},
		{core.NoNewPrivs, 10}, {core.Async, 30},
	} {
		if chance(random, may.percent) {
			o.Flags |= may.flag
		}
	}
	if chance(random, 15) {
		o.Timeout = time.Duration(1+random.IntN(100)) * time.Millisecond
	}
	if chance(random, 50) {
		o.Stderr.Mode = []core.StdioMode{core.StdioPipe, core.StdioNull}[random.IntN(2)]
	}
	mayFail := chance(random, 10)
	if mayFail {
		most := uint64(1+random.IntN(8)) << 20
		o.Rlimits = append(o.Rlimits, wire.Rlimit{Resource: unix.RLIMIT_AS, Soft: most, Hard: most})
	}
	if chance(random, 10) {
		most := uint64(3 + random.IntN(20))
		o.Rlimits = append(o.Rlimits, wire.Rlimit{Resource: unix.RLIMIT_NOFILE, Soft: most, Hard: most})
	}
	p, err := h.spawn(o)
	if err != nil && strings.Contains(err.Error(), "for NR_PID_NAMESPACE") && !h.explains(err) {
		o.Flags &^= core.PIDNamespace // not here, or not for this user
		p, err = h.spawn(o)
	}
	if h.talks {
		fmt.Fprintf(os.Stderr, "    %s %s flags %#x, error %v\n", tag, tree, o.Flags, err)
	}
	if err != nil {
		if !h.explains(err) && !mayFail {
			h.fail("start of a tree: %v", err)
		}
		return
	}
	exact := o.Flags&(core.OwnShepherd|core.PIDNamespace) != 0
	p.tag, p.mayFail, p.lingers = tag, mayFail || o.Flags&core.PIDNamespace != 0, o.Flags&core.Linger != 0
	p.isLost = strings.Contains(tree, "lost") && !exact
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trees = append(h.trees, p)
}

func (h *host) failToStart() {
	o := &core.Options{Argv: []string{"/nonexistent/program"}}
	if chance(h.random, 50) {
		o = &core.Options{Argv: []string{h.testprog(), "exit", "0"}, Cwd: "/nonexistent"}
	}
	p, err := h.spawn(o)
	if err == nil {
		p.release()
	}
	if !errors.Is(err, unix.ENOENT) && !h.explains(err) {
		h.fail("the start of nothing: %v", err)
	}
}

// runCopy gives a copying program something, which must come back, all of it
// and as it was.
func (h *host) runCopy() {
	o := &core.Options{Argv: []string{h.testprog(), "copy"}, Stderr: core.Stdio{Mode: core.StdioNull}}
	isSlow := chance(h.random, 20)
	if chance(h.random, 30) {
		o.PipeSize = 4096 << h.random.IntN(6)
	}
	if chance(h.random, 30) {
		o.Flags |= core.Async
	}
	in := make([]byte, 1+h.random.IntN(300000))
	for i := range in {
		in[i] = byte(h.random.Uint32())
	}
	p, err := h.spawn(o)
	if err != nil {
		if !h.explains(err) {
			h.fail("start of a copy: %v", err)
		}
		return
	}
	defer p.release()
	var out []byte
	written := 0
	buf := make([]byte, 65536)
	for deadline := time.Now().Add(patience); ; {
		if time.Now().After(deadline) {
			h.fail("a copy does not go on: %d of %d written, %d read", written, len(in), len(out))
			return
		}
		chunk := 1 + h.random.IntN(len(buf))
		events := []unix.PollFd{{Fd: int32(p.streams[core.Stdout].FD), Events: unix.POLLIN}}
		if stdin := p.streams[core.Stdin].FD; stdin >= 0 {
			events = append(events, unix.PollFd{Fd: int32(stdin), Events: unix.POLLOUT})
			n, err := unix.Write(stdin, in[written:min(len(in), written+chunk)])
			written += max(0, n)
			if written == len(in) || err != nil && err != unix.EAGAIN && err != unix.EINTR {
				p.closeStream(core.Stdin)
			}
		}
		n, err := unix.Read(p.streams[core.Stdout].FD, buf[:chunk])
		if n > 0 {
			out = append(out, buf[:n]...)
			if isSlow {
				time.Sleep(time.Duration(h.random.IntN(3)) * time.Millisecond)
			}
			continue
		}
		if err == nil || err != unix.EAGAIN && err != unix.EINTR {
			break
		}
		_, _ = unix.Poll(events, 100)
	}
	state, err := p.wait(patience)
	switch {
	case err != nil && !h.explains(err):
		h.fail("the end of a copy: %v", err)
	case err == nil && !h.shepherdMayDie() && (state.Exit.Code != 0 || !bytes.Equal(in, out)):
		h.fail("of %d bytes %d were written, and %d came back, or not those; %+v", len(in), written, len(out), state.Exit)
	}
}

var signals = []unix.Signal{0, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGSTOP, unix.SIGCONT, unix.SIGUSR1,
	unix.SIGUSR2, unix.SIGCHLD, unix.SIGKILL}

// doSomething makes a call that may be made at any time, from any goroutine,
// with any result but a crash or a hang.
func (h *host) doSomething(random *rand.Rand) {
	h.mu.Lock()
	if len(h.trees) == 0 {
		h.mu.Unlock()
		return
	}
	p := h.trees[random.IntN(len(h.trees))]
	h.mu.Unlock()
	switch random.IntN(12) {
	case 0, 1, 2:
		_, _ = p.Signal(int(signals[random.IntN(len(signals))]))
	case 3, 4:
		_ = p.Stop(wire.ReasonKilled)
	case 5:
		_ = p.Stop(wire.ReasonOutput)
	case 6:
		p.letGo()
	case 7, 8:
		p.Usage()
	case 9:
		p.GreetingTimeout()
	default:
		p.Poll()
	}
}

// useStreams reads, writes or closes some program's stream.
func (h *host) useStreams() {
	if len(h.trees) == 0 {
		return
	}
	p := h.trees[h.random.IntN(len(h.trees))]
	stream := h.random.IntN(3)
	fd := p.streams[stream].FD
	switch {
	case fd < 0:
	case chance(h.random, 30):
		p.closeStream(stream)
	case stream == core.Stdin:
		_, _ = unix.Write(fd, []byte("x\n"))
	default:
		_, _ = unix.Read(fd, make([]byte, 4096))
	}
}

// finish ends a program in one of the ways that there are. When that is known
// its tree must be dead.
func (h *host) finish(p *program) {
	defer p.release()
	switch h.random.IntN(4) {
	case 0:
		_ = p.Stop(wire.ReasonKilled)
	case 1:
		_, _ = p.Signal(int(unix.SIGKILL))
		_ = p.Stop(wire.ReasonKilled) // what lingers, and who is in another group
	case 2:
		_, _ = p.wait(time.Duration(h.random.IntN(50)) * time.Millisecond)
		_ = p.Stop(wire.ReasonKilled)
	default:
		return
	}
	state, err := p.wait(patience)
	switch {
	case p.released.Load():
	case err == nil:
		if e := state.Exit; (e.Code < 0) == (e.Signal < 0) {
			h.fail("code %d and signal %d", e.Code, e.Signal)
		}
		if left := census(p.tag); !p.lingers && !p.isLost && !h.shepherdMayDie() && anyAlive(left) {
			h.fail("alive after the end of their program:\n%s", strings.Join(left, "\n"))
		}
	case !h.explains(err) && (!p.mayFail || errors.Is(err, unix.ETIMEDOUT)):
		h.fail("the end of a tree: %v", err)
	}
}

func eventually(condition func() bool) bool {
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

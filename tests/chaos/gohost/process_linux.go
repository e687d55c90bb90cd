// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"libnetrunner/core"
)

// version is set by the linker and must be that of the shepherd.
var version = "0.0.0-dev"

func (h *host) testprog() string     { return filepath.Join(h.programs, "testprog") }
func (h *host) hostile() string      { return filepath.Join(h.programs, "hostile") }
func (h *host) shepherdPath() string { return filepath.Join(h.programs, "..", "netrunner-shepherd") }

// spawn starts a program, as nr_spawn() does, and unless that is Async waits
// until it has been executed.
func (h *host) spawn(o *core.Options) (*program, error) {
	o.Env = os.Environ()
	made, err := h.runner.Prepare(o, h.shepherdPath())
	if err != nil {
		return nil, err
	}
	p := &program{Process: made, streams: made.Streams()}
	if err := h.launch(p); err != nil {
		p.Abandon()
		p.release()
		return nil, err
	}
	if o.Flags&core.Async != 0 {
		return p, nil
	}
	state, err := p.await(patience, func(s core.State) bool { return s.Phase != core.Starting })
	if err == nil && state.Phase == core.Failed {
		err = state.Failure
	}
	if err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

func (h *host) launch(p *program) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		need, err := p.Launch()
		if err != nil {
			return err
		}
		switch need.What {
		case core.NeedNothing:
			return nil
		case core.NeedShepherd:
			control, pidfd, err := h.startShepherd()
			if err != nil {
				return err
			}
			if err := p.Adopt(control, pidfd); err != nil {
				return err
			}
		case core.NeedRoom:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(need.Socket), Events: unix.POLLOUT}}, 100)
		}
	}
	return fmt.Errorf("launch: %w", unix.ETIMEDOUT)
}

// startShepherd starts a guardian, whose child the shepherd is, and returns the
// host's end of the control socket and a pidfd of the guardian.
func (h *host) startShepherd() (control, pidfd int, err error) {
	h.reap()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[1])
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(null)
		var pid int
		const launch = `"$0" & exec "$0" --guardian $! 3>&-`
		pid, err = syscall.ForkExec("/bin/sh", []string{"sh", "-c", launch, h.shepherdPath()}, &syscall.ProcAttr{
			// It has no environment, and by that not the mark of the round. What it
			// says, before it dies, is for the one who looks at the round.
			Env:   []string{},
			Files: []uintptr{uintptr(null), uintptr(null), 2, uintptr(pair[1])},
			Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
		})
		h.shepherds = append(h.shepherds, pid)
	}
	if err != nil {
		_ = unix.Close(pair[0])
		return -1, -1, fmt.Errorf("starting a shepherd: %w", err)
	}
	return pair[0], pidfd, nil
}

// reap takes the status of the shepherds that have ended.
func (h *host) reap() {
	left := h.shepherds[:0]
	for _, pid := range h.shepherds {
		if ended, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); ended == 0 && err == nil || err == unix.EINTR {
			left = append(left, pid)
		}
	}
	h.shepherds = left
}

// await waits until the state is as wanted, or final, or nobody's business any
// more.
func (p *program) await(limit time.Duration, wanted func(s core.State) bool) (core.State, error) {
	for deadline := time.Now().Add(limit); ; {
		s := p.Poll()
		left := time.Until(deadline)
		switch {
		case s.Phase == core.Lost:
			return s, unix.EOWNERDEAD
		case s.Phase == core.Failed || wanted(s):
			return s, nil
		case p.released.Load():
			return s, unix.ECANCELED
		case left <= 0:
			return s, unix.ETIMEDOUT
		}
		if greeting := p.GreetingTimeout(); greeting > 0 {
			left = min(left, greeting)
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.Socket()), Events: unix.POLLIN}},
			int(min(left.Milliseconds()+1, math.MaxInt32)))
	}
}

// wait waits for the end.
func (p *program) wait(limit time.Duration) (core.State, error) {
	s, err := p.await(limit, func(s core.State) bool { return s.Phase == core.Ended })
	if err == nil && s.Phase == core.Failed {
		err = s.Failure
	}
	return s, err
}

// letGo releases the program; what is the main goroutine's stays open.
func (p *program) letGo() {
	p.released.Store(true)
	p.Release()
}

func (p *program) release() {
	p.letGo()
	_ = unix.Close(p.Socket())
	for stream := range p.streams {
		p.closeStream(stream)
	}
	if p.Master() >= 0 {
		_ = unix.Close(p.Master())
	}
}

func (p *program) closeStream(stream int) {
	if fd := p.streams[stream].FD; fd >= 0 {
		_ = unix.Close(fd)
	}
	p.streams[stream].FD = -1
}

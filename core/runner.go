// SPDX-License-Identifier: Apache-2.0

package core

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// greetingTimeout is how long a shepherd may take to greet before it is given
// up. It has 10 ms of work to do; the rest is for machines in trouble.
const greetingTimeout = 10 * time.Second

// Runner runs programs, under one shepherd for each path of a shepherd's
// executable. The zero value is not usable; there is no need for more than one
// in a process.
type Runner struct {
	version   string
	closeFile func(fd int)

	mu        sync.Mutex
	shepherds map[string]*shepherd
}

// NewRunner returns a Runner for a library of the given version. closeFile
// closes the descriptors that were handed to Adopt.
func NewRunner(version string, closeFile func(fd int)) *Runner {
	return &Runner{version: version, closeFile: closeFile, shepherds: make(map[string]*shepherd)}
}

// shepherd is the host's side of a shepherd process. Runner.mu guards it.
type shepherd struct {
	runner   *Runner
	path     string
	identity identity
	control  int // the control socket
	pidfd    int // until it has greeted, else -1

	reader   wire.Reader
	greeted  bool
	refusals []*Error  // for programs whose descriptors it could not take
	deadline time.Time // for the greeting
	gone     *Error    // why it can't be used any more

	unsent   []byte // the rest of a frame that the socket had no room for
	unsentTo *Process
	programs int  // that may still need it
	replaced bool // it gets no more of them
}

// Adopt introduces a shepherd that the caller has started from path, with the
// other end of control as its descriptor 3. pidfd, which may be -1, is used to
// kill it if it turns out to be something else. Both belong to the Runner from
// now on, also after an error.
func (r *Runner) Adopt(path string, control, pidfd int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.adopt(path, control, pidfd)
	if err != nil {
		return err
	}
	if old := r.shepherds[path]; old != nil {
		old.replaced = true
		old.closeIfUnused()
	}
	r.shepherds[path] = s
	return nil
}

func (r *Runner) adopt(path string, control, pidfd int) (*shepherd, error) {
	s := &shepherd{
		runner: r, path: path, identity: currentIdentity(), control: control, pidfd: pidfd,
		deadline: time.Now().Add(greetingTimeout),
	}
	hello := wire.Hello{Role: wire.RoleHost, Revision: wire.Revision, Version: r.version, PID: int32(unix.Getpid())}
	var descriptors []int
	if host := hostPIDFD(); host >= 0 {
		descriptors = []int{host}
		defer unix.Close(host)
	}
	// The socket is new and empty: this takes it whole or never.
	if _, err := wire.Send(control, hello.Encode(len(descriptors)), descriptors); err != nil {
		s.fail(&Error{errNoShepherd, path + ": ended at once, so it is no netrunner-shepherd: " + err.Error()})
		return nil, s.gone
	}
	return s, nil
}

// NeedsShepherd tells whether a program that will share the shepherd at path
// needs Adopt first.
func (r *Runner) NeedsShepherd(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.usable(path) == nil
}

// usable returns the shepherd to use now. A shepherd that was started when the
// host was somebody else stays with the programs that it has.
func (r *Runner) usable(path string) *shepherd {
	s := r.shepherds[path]
	if s == nil || s.gone != nil || s.replaced {
		return nil
	}
	now := currentIdentity()
	if !s.identity.equal(&now) {
		return nil
	}
	return s
}

// fail gives a shepherd up: why is what its programs are told that have not
// been started. Closing the control socket makes it kill everything and end,
// if it is one and still lives.
func (s *shepherd) fail(why *Error) {
	if s.gone != nil {
		return
	}
	s.gone = why
	if !s.greeted && s.pidfd >= 0 {
		killPIDFD(s.pidfd)
	}
	s.dropPIDFD()
	s.reader.Close()
	s.unsent, s.unsentTo = nil, nil
	s.closeControl()
}

func (s *shepherd) dropPIDFD() {
	if s.pidfd >= 0 {
		s.runner.closeFile(s.pidfd)
		s.pidfd = -1
	}
}

func (s *shepherd) closeControl() {
	if s.control >= 0 {
		s.runner.closeFile(s.control)
		s.control = -1
	}
}

// closeIfUnused ends a shepherd that no program and no later spawn needs.
func (s *shepherd) closeIfUnused() {
	if s.replaced && s.programs == 0 {
		s.dropPIDFD()
		s.closeControl()
	}
}

// listen takes what the shepherd has said: its greeting, or its end.
func (s *shepherd) listen() {
	if s.gone != nil || s.control < 0 {
		return
	}
	var scratch [512]byte
	err := s.reader.Read(s.control, scratch[:], func(h wire.Header, payload []byte, descriptors []int) error {
		for _, fd := range descriptors {
			_ = unix.Close(fd)
		}
		switch h.Type {
		case wire.TypeHello:
		case wire.TypeFailed:
			refusal, err := wire.ParseFailed(payload)
			s.refusals = append(s.refusals, &Error{unix.Errno(refusal.Errno), refusal.Why})
			return err
		default:
			return fmt.Errorf("frame of type %d", h.Type)
		}
		hello, err := wire.ParseHello(payload)
		if err != nil {
			return err
		}
		if hello.Role != wire.RoleShepherd {
			return errors.New("it echoes")
		}
		if hello.Revision != wire.Revision || hello.Version != s.runner.version {
			return &Error{errNoShepherd, fmt.Sprintf(
				"%s: is version %s (protocol %d), the library is version %s (protocol %d)",
				s.path, hello.Version, hello.Revision, s.runner.version, wire.Revision)}
		}
		s.greeted = true
		s.dropPIDFD()
		return nil
	})
	var mismatch *Error
	switch {
	case err == nil || err == unix.EAGAIN:
		if !s.greeted && time.Now().After(s.deadline) {
			s.fail(&Error{errNoShepherd, s.path + ": did not greet, so it is no netrunner-shepherd"})
		}
	case errors.As(err, &mismatch):
		s.fail(mismatch)
	case s.greeted:
		s.fail(&Error{errShepherdDied, "the shepherd was killed"})
	case errors.Is(err, io.EOF) || err == unix.ECONNRESET:
		s.fail(&Error{errNoShepherd, s.path + ": ended without a greeting: it is no netrunner-shepherd, or the kernel is too old for it, or short of processes or memory"})
	default:
		s.fail(&Error{errNoShepherd, s.path + ": is no netrunner-shepherd: " + err.Error()})
	}
}

// send sends a Spawn. It returns false when there is no room: nothing of the
// frame has been sent, or all that is missing is in s.unsent.
func (s *shepherd) send(p *Process) (bool, error) {
	if !p.queued {
		if done, err := s.flush(); !done || err != nil {
			return false, err
		}
		n, err := wire.Send(s.control, p.frame, p.plumbing.descriptors)
		if err == unix.EAGAIN || err == unix.ETOOMANYREFS {
			// ETOOMANYREFS: too many descriptors on their way, see unix(7).
			return false, nil
		}
		if err != nil {
			return false, err
		}
		p.queued = true
		s.unsent, s.unsentTo = p.frame[n:], p
	}
	if s.unsentTo != p {
		return true, nil // somebody else's flush has sent the rest
	}
	return s.flush()
}

func (s *shepherd) flush() (bool, error) {
	for len(s.unsent) > 0 {
		n, err := wire.Send(s.control, s.unsent, nil)
		if err == unix.EAGAIN {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		s.unsent = s.unsent[n:]
	}
	s.unsent, s.unsentTo = nil, nil
	return true, nil
}

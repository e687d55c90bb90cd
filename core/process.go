// SPDX-License-Identifier: Apache-2.0

package core

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// Phase is how far a process has come.
type Phase int

// Phases. The last three are final.
const (
	Starting Phase = iota // not executed yet
	Running
	Failed // could not be executed
	Ended  // and its group is gone
	Lost   // the shepherd was killed, nobody knows how the program ended
)

// State is what is known about a process.
type State struct {
	Phase   Phase
	PID     int         // from Running on
	Cgroup  string      // the directory of its own cgroup; from Running on
	Failure *Error      // Failed
	Exit    wire.Exited // Ended

	// The last Signal that has been answered, and with what.
	Answered    uint32
	AnswerErrno unix.Errno
}

// Final tells that no more will become known.
func (s *State) Final() bool { return s.Phase >= Failed }

// Process is a program that was asked for. All methods may be called from any
// goroutine at any time, and return at once.
type Process struct {
	runner   *Runner
	path     string // of the shepherd's executable
	socket   int    // our end of the process socket; closed by the caller
	linger   bool   // the shepherd has work to do after the program's end
	alone    bool   // with a shepherd of its own
	plumbing plumbing

	// Guarded by runner.mu.
	shepherd *shepherd // that it has been sent to
	own      *shepherd // with OwnShepherd, when it has been adopted
	frame    []byte    // of its Spawn, until that is sent
	queued   bool      // the shepherd's socket has taken the first bytes of it

	mu       sync.Mutex
	reader   wire.Reader
	state    State
	sequence uint32
	lost     time.Time // when the socket was seen to end without a last frame
	released bool
}

// What a Launch needs before it can go on.
type What int

// Needs.
const (
	NeedNothing  What = iota // launched
	NeedShepherd             // none runs; call Runner.Adopt
	NeedRoom                 // Socket is full; wait until it is writable
)

// Need is what Launch needs, and of which.
type Need struct {
	What   What
	Socket int
}

// Prepare checks options and makes all that the program will share with the
// host. shepherd is the path of the shepherd's executable. The host's ends of
// the streams and of the process socket belong to the caller after success.
func (r *Runner) Prepare(o *Options, shepherd string) (*Process, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := o.checkOpen(); err != nil {
		return nil, err
	}
	p := &Process{runner: r, path: shepherd, linger: o.Flags&Linger != 0, alone: o.Flags&OwnShepherd != 0, plumbing: newPlumbing()}
	pair, err := newSocketPair()
	if err != nil {
		return nil, failed(err, "socketpair")
	}
	p.socket = pair[0]
	p.plumbing.pass(pair[1], true)
	if err := p.prepare(o); err != nil {
		p.plumbing.closeAll()
		_ = unix.Close(p.socket)
		return nil, err
	}
	return p, nil
}

func (p *Process) prepare(o *Options) error {
	spawn := wire.Spawn{
		Setup: wire.Setup{
			Flags:       wireFlags(o.Flags),
			Timeout:     int64(o.Timeout),
			KillTimeout: int64(o.KillTimeout),
			UID:         o.UID,
			GID:         o.GID,
			Umask:       o.Umask,
			Nice:        o.Nice,
			Groups:      o.Groups,
			Rlimits:     o.Rlimits,
		},
		Program: o.file(),
		Paths:   lookup(o.file(), o.Env),
		Cwd:     o.Cwd,
		Argv:    o.Argv,
		Env:     o.Env,

		CgroupBase: o.CgroupBase,
		CgroupPath: o.CgroupPath,
		CgroupSet:  o.CgroupSet,
	}
	// First, so that an explicit one among o.Rlimits counts.
	if limit, ok := hostNoFile(); ok {
		spawn.Rlimits = append([]wire.Rlimit{limit}, o.Rlimits...)
	}
	switch o.KillTimeout {
	case 0:
		spawn.KillTimeout = int64(DefaultKillTimeout)
	case KillNow:
		spawn.KillTimeout = wire.KillNow
	}
	if len(o.Cwd) == 0 || o.Cwd[0] != '/' {
		// The shepherd is not where the host is.
		dir, err := openDirectory(".")
		if err != nil {
			return failed(err, "open the working directory")
		}
		p.plumbing.pass(dir, true)
		spawn.Flags |= wire.SpawnCwdDescriptor
	}
	if err := p.plumbing.plumb(o); err != nil {
		return err
	}
	spawn.Files = p.plumbing.files
	if o.Flags&PTY != 0 {
		spawn.Flags |= wire.SpawnTerminal
		spawn.Terminal = p.plumbing.terminal
	}
	p.frame = spawn.Encode(len(p.plumbing.descriptors))
	if len(p.frame) > wire.MaxPayload {
		return &Error{unix.E2BIG, fmt.Sprintf("execve %s: %d bytes of arguments and environment", spawn.Program, len(p.frame))}
	}
	return nil
}

func wireFlags(f Flags) wire.SpawnFlags {
	var w wire.SpawnFlags
	for _, pair := range []struct {
		from Flags
		to   wire.SpawnFlags
	}{
		{Session, wire.SpawnSession},
		{Linger, wire.SpawnLinger},
		{PIDNamespace, wire.SpawnPIDNamespace},
		{NoNewPrivs, wire.SpawnNoNewPrivs},
		{SetUID, wire.SpawnUID},
		{SetGID, wire.SpawnGID},
		{SetGroups, wire.SpawnGroups},
		{SetUmask, wire.SpawnUmask},
		{SetNice, wire.SpawnNice},
	} {
		if f&pair.from != 0 {
			w |= pair.to
		}
	}
	return w
}

// Abandon closes what a process that will not be launched was to get. The
// host's ends are the caller's, as ever.
func (p *Process) Abandon() {
	p.runner.mu.Lock()
	defer p.runner.mu.Unlock()
	p.plumbing.closePassed()
	if p.own != nil {
		p.own.closeIfUnused()
	}
}

// Adopt introduces a shepherd that was started for this process, as
// Runner.Adopt does: its own, or one that other programs will share.
func (p *Process) Adopt(control, pidfd int) error {
	if !p.alone {
		return p.runner.Adopt(p.path, control, pidfd)
	}
	p.runner.mu.Lock()
	defer p.runner.mu.Unlock()
	s, err := p.runner.adopt(p.path, control, pidfd)
	if err == nil {
		s.replaced = true // it gets no other program, and ends with this one
		p.own = s
	}
	return err
}

// NeedsShepherd tells whether Launch needs Adopt first.
func (p *Process) NeedsShepherd() bool {
	p.runner.mu.Lock()
	defer p.runner.mu.Unlock()
	return p.usable() == nil
}

func (p *Process) usable() *shepherd {
	if !p.alone {
		return p.runner.usable(p.path)
	}
	if p.own != nil && p.own.gone == nil {
		return p.own
	}
	return nil
}

// Launch hands the program to the shepherd. It is called again after what it
// needs has been seen to. An error is final, and the caller then abandons p.
func (p *Process) Launch() (Need, error) {
	r := p.runner
	r.mu.Lock()
	defer r.mu.Unlock()

	if p.shepherd != nil && p.shepherd.gone != nil {
		// It died with a part of the frame: the program was never run.
		p.shepherd, p.queued = nil, false
	}
	if p.shepherd == nil {
		if p.shepherd = p.usable(); p.shepherd == nil {
			return Need{What: NeedShepherd}, nil
		}
	}
	s := p.shepherd
	sent, err := s.send(p)
	if err != nil {
		s.listen() // it may have said why
		s.fail(&Error{errShepherdDied, "the shepherd was killed"})
		if s.gone.Errno == errNoShepherd {
			return Need{}, s.gone
		}
		p.shepherd, p.queued = nil, false
		return Need{What: NeedShepherd}, nil
	}
	if !sent {
		if !p.queued {
			p.shepherd = nil
		}
		return Need{NeedRoom, s.control}, nil
	}
	s.programs++
	p.frame = nil
	p.plumbing.closePassed()
	return Need{}, nil
}

// Streams are the host's ends of the program's streams.
func (p *Process) Streams() [3]Stream { return p.plumbing.streams }

// Master is the host's end of the program's terminal, or -1, beside the ones
// that are Streams. It belongs to the caller, who closes it when it has no more
// use for the process.
func (p *Process) Master() int { return p.plumbing.master }

// Socket is readable when Poll has news, and for ever once its State is final.
func (p *Process) Socket() int { return p.socket }

// Poll takes what the shepherd has said and returns the state.
func (p *Process) Poll() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.poll()
	return p.state
}

func (p *Process) poll() {
	if p.state.Final() {
		return
	}
	scratch := scratches.Get().(*[1024]byte)
	defer scratches.Put(scratch)
	for !p.state.Final() && !p.released {
		err := p.reader.Read(p.socket, scratch[:], p.handle)
		switch {
		case err == nil:
			continue
		case err == unix.EAGAIN:
			if why := p.greet(); why != nil && p.state.Phase == Starting {
				p.fail(why)
				continue
			}
			return
		case err == io.EOF || err == unix.ECONNRESET:
			if !p.lose() {
				return
			}
		default:
			// Cannot be, from the shepherd that greeted.
			p.state.Phase = Lost
		}
	}
	if p.state.Final() {
		// The shepherd greeted before it said anything of p. Taking that now
		// closes its pidfd, even if this was its only program.
		_ = p.greet()
		// Readable for ever: the shepherd may not have ended its side yet.
		_ = unix.Shutdown(p.socket, unix.SHUT_RD)
		if !p.linger {
			p.leaveShepherd()
		}
	}
}

// scratches are what poll receives into.
var scratches = sync.Pool{New: func() any { return new([1024]byte) }}

// greet takes the greeting of p's shepherd, and returns an error when none will
// come.
func (p *Process) greet() *Error {
	p.runner.mu.Lock()
	defer p.runner.mu.Unlock()
	s := p.shepherd
	if s == nil {
		return nil // not launched yet
	}
	if !s.greeted {
		s.listen()
	}
	if s.gone != nil && s.gone.Errno == errNoShepherd {
		return s.gone
	}
	return nil
}

// GreetingTimeout is how long a caller that waits for a Starting process
// should wait at most before it calls Poll again; 0 is no limit.
func (p *Process) GreetingTimeout() time.Duration {
	p.runner.mu.Lock()
	defer p.runner.mu.Unlock()
	s := p.shepherd
	if s == nil {
		return 0
	}
	if !s.greeted {
		s.listen()
	}
	if s.greeted || s.gone != nil {
		return 0
	}
	return max(time.Until(s.deadline), time.Millisecond)
}

func (p *Process) fail(why *Error) {
	p.state.Phase = Failed
	p.state.Failure = why
}

var errTrailing = errors.New("frames after the last")

func (p *Process) handle(h wire.Header, payload []byte, descriptors []int) error {
	for _, fd := range descriptors {
		_ = unix.Close(fd)
	}
	if p.state.Final() {
		return errTrailing
	}
	switch h.Type {
	case wire.TypeStarted:
		started, err := wire.ParseStarted(payload)
		if err != nil {
			return err
		}
		p.state.Phase = Running
		p.state.PID = int(started.PID)
		p.state.Cgroup = started.Cgroup
	case wire.TypeFailed:
		failed, err := wire.ParseFailed(payload)
		if err != nil {
			return err
		}
		p.fail(&Error{unix.Errno(failed.Errno), failed.Why})
	case wire.TypeAnswer:
		answer, err := wire.ParseAnswer(payload)
		if err != nil {
			return err
		}
		p.state.Answered = answer.Sequence
		p.state.AnswerErrno = unix.Errno(answer.Errno)
	case wire.TypeExited:
		exited, err := wire.ParseExited(payload)
		if err != nil {
			return err
		}
		p.state.Phase = Ended
		p.state.Exit = exited
	default:
		return fmt.Errorf("frame of type %d from the shepherd", h.Type)
	}
	return nil
}

// lastWords is how long lose gives a shepherd to say what it is about to, which
// takes microseconds if the scheduler does not leave it aside.
const lastWords = time.Second

// lose finds out why the shepherd has let go of a process without its end. It
// returns false when it is too early to tell; then the socket stays readable,
// and whoever waits calls Poll again.
func (p *Process) lose() bool {
	r := p.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	s := p.shepherd
	s.listen()
	starting := p.state.Phase == Starting
	if starting && s.gone == nil && len(s.refusals) == 0 {
		// The kernel has dropped the process socket that it could not take, or
		// its others are about to be closed: either way it is a matter of moments.
		if p.lost.IsZero() {
			p.lost = time.Now()
		}
		if time.Since(p.lost) < lastWords {
			return false
		}
	}
	if starting && len(s.refusals) > 0 {
		p.fail(s.refusals[0])
		s.refusals = s.refusals[1:]
		return true
	}
	why := &Error{errShepherdDied, "the shepherd was killed"}
	if s.greeted {
		// A process that is killed closes its sockets one after the other: this
		// one may be the first to tell, and nothing more must be sent to it. It
		// may have let go of this program alone, though: the others live on.
		s.replaced = true
	} else {
		s.fail(why)
	}
	if s.gone != nil {
		why = s.gone
	}
	if starting {
		p.fail(why)
	} else {
		p.state.Phase = Lost
	}
	return true
}

// leaveShepherd lets a shepherd go that was kept for this program.
func (p *Process) leaveShepherd() {
	p.runner.mu.Lock()
	defer p.runner.mu.Unlock()
	if s := p.shepherd; s != nil && p.frame == nil {
		p.shepherd = nil
		s.programs--
		s.closeIfUnused()
	}
}

// Signal asks the shepherd to send a signal to the program's group. The answer
// comes as State.Answered, which will be the number that Signal returns.
func (p *Process) Signal(number int) (uint32, error) {
	if number < 0 || number > maxSignal {
		return 0, invalid("no signal %d", number)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.poll()
	if p.state.Final() || p.released {
		return 0, &Error{unix.ESRCH, "the program has ended"}
	}
	p.sequence++
	message := wire.Signal{Sequence: p.sequence, Number: int32(number)}
	if err := p.tell(message.Encode()); err != nil {
		return 0, err
	}
	return p.sequence, nil
}

// maxSignal is the last real-time signal.
const maxSignal = 64

// Stop asks the shepherd to end the program: SIGTERM, grace, SIGKILL for
// ReasonKilled, SIGKILL at once for ReasonOutput. It is no error that the
// program has ended.
func (p *Process) Stop(reason wire.Reason) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.poll()
	lingers := p.linger && p.state.Phase == Ended
	if p.state.Final() && !lingers || p.released {
		return nil
	}
	message := wire.Stop{Reason: reason}
	err := p.tell(message.Encode())
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// tell sends a frame on the process socket. Frames are few and small, the
// socket holds hundreds: it is full only when the shepherd is stopped.
func (p *Process) tell(frame []byte) error {
	n, err := wire.Send(p.socket, frame, nil)
	switch {
	case err == unix.EPIPE || err == unix.ECONNRESET:
		return &Error{unix.ESRCH, "the program has ended"}
	case err != nil:
		return failed(err, "asking the shepherd")
	case n != len(frame):
		// Half a frame would garble all that follow. End of file instead makes
		// the shepherd kill the program.
		_ = unix.Shutdown(p.socket, unix.SHUT_WR)
		return &Error{unix.EAGAIN, "asking the shepherd: it does not read"}
	}
	return nil
}

// Release ends the use of a process: if it still runs the shepherd is asked to
// stop it. Whoever waits for Socket is woken. The caller closes the socket
// afterwards.
func (p *Process) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return
	}
	lingers := p.linger && p.state.Phase == Ended
	if !p.state.Final() || lingers {
		_ = p.tell(wire.EncodeRelease())
		_ = unix.Shutdown(p.socket, unix.SHUT_RDWR)
	}
	p.released = true
	p.reader.Close()
	p.leaveShepherd()
}

// unknown is a number that is not known.
const unknown = math.MaxUint64

// Usage is what a program has used. Fields that are not known are
// math.MaxUint64.
type Usage struct {
	wire.Usage
	Memory    uint64 // bytes, now; with a cgroup
	Processes uint64 // now; with a cgroup
}

// Usage returns what a program has used: with a cgroup of its own, all of that.
// Else, while it runs, what /proc tells: processor time of its own and of the
// children that it waited for, and its peak of memory.
func (p *Process) Usage() Usage {
	state := p.Poll()
	u := Usage{Memory: unknown, Processes: unknown}
	if state.Phase == Ended {
		u.Usage = state.Exit.Usage
		if state.Cgroup != "" {
			u.Memory, u.Processes = 0, 0
		}
		return u
	}
	u.Usage = wire.Usage{User: unknown, System: unknown, MaxRSS: unknown,
		MinorFaults: unknown, MajorFaults: unknown, BlocksIn: unknown, BlocksOut: unknown,
		VoluntarySwitches: unknown, InvoluntarySwitches: unknown}
	if state.Phase == Running {
		readUsage(state.PID, &u.Usage)
		if state.Cgroup != "" {
			readCgroupUsage(state.Cgroup, &u)
		}
	}
	return u
}

// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// The host's greeting says what the shepherd has to know, and carries a pidfd
// by which the shepherd learns of the host's death.
func TestHostGreets(t *testing.T) {
	s := newStage(t)
	f := s.adopt(-1)
	m := f.next(wire.TypeHello)
	hello, err := wire.ParseHello(m.payload)
	require.NoError(t, err)
	require.Equal(t, &wire.Hello{Role: wire.RoleHost, Revision: wire.Revision, Version: testVersion, PID: int32(os.Getpid())}, hello)
	require.Len(t, m.descriptors, 1)
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", m.descriptors[0]))
	require.NoError(t, err)
	require.Contains(t, string(info), fmt.Sprintf("\nPid:\t%d\n", os.Getpid()))
	f.nothing()
}

func TestLaunchNeedsShepherd(t *testing.T) {
	s := newStage(t)
	p := s.prepare(Options{})
	for range 2 {
		need, err := p.Launch()
		require.NoError(t, err)
		require.Equal(t, Need{What: NeedShepherd}, need)
		require.True(t, s.runner.NeedsShepherd(shepherdPath))
	}
	require.Equal(t, Starting, p.Poll().Phase, "Poll is allowed at any time")
	require.Zero(t, p.GreetingTimeout())

	f := s.adopt(-1)
	require.False(t, s.runner.NeedsShepherd(shepherdPath))
	require.True(t, s.runner.NeedsShepherd(shepherdPath+".other"))
	f.next(wire.TypeHello)
	s.launch(p) // without waiting for the shepherd's greeting
	require.Equal(t, "prog", f.takes().request.Argv[0].String())
	require.Greater(t, p.GreetingTimeout(), time.Duration(0))
	f.greet()
	require.Zero(t, p.GreetingTimeout())
	require.Equal(t, Starting, p.Poll().Phase)
}

// From Launch to the end, and what Poll tells of it.
func TestProcessLife(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.run(Options{})
	program := f.takes()
	require.False(t, readable(t, p.Socket()))
	require.Equal(t, State{Phase: Starting}, p.Poll())
	program.say(started(4711))
	require.True(t, readable(t, p.Socket()))
	require.Equal(t, State{Phase: Running, PID: 4711}, p.Poll())
	require.False(t, readable(t, p.Socket()))

	exit := wire.Exited{Code: -1, Signal: 9, Core: true, Reason: wire.ReasonKilled, Time: 5,
		Usage: wire.Usage{User: 1, System: 2, MaxRSS: 3, InvoluntarySwitches: 4}}
	program.say(exit.Encode())
	require.True(t, readable(t, p.Socket()))
	for range 3 {
		require.Equal(t, State{Phase: Ended, PID: 4711, Exit: exit}, p.Poll())
		require.True(t, readable(t, p.Socket()), "for ever, even before the shepherd has closed its end")
		program.end()
	}
	require.Equal(t, exit.Usage, p.Usage().Usage)
}

// All at once, as a host sees it that looks late.
func TestProcessLifeUnread(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.run(Options{})
	program := f.takes()
	program.say(started(4711))
	program.say((&wire.Answer{Sequence: 1, Errno: int32(unix.EPERM)}).Encode())
	program.say(exited(3))
	program.end()
	state := p.Poll()
	require.Equal(t, Ended, state.Phase)
	require.EqualValues(t, 3, state.Exit.Code)
	require.EqualValues(t, 1, state.Answered)
	require.Equal(t, unix.EPERM, state.AnswerErrno)
}

func TestProcessFailed(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.run(Options{})
	program := f.takes()
	program.say((&wire.Failed{Errno: int32(unix.EACCES), Why: "execve ./x: permission denied"}).Encode())
	program.end()
	for range 2 {
		state := p.Poll()
		require.Equal(t, Failed, state.Phase)
		requireError(t, state.Failure, unix.EACCES, "execve ./x: permission denied")
	}
	require.Equal(t, unknownUsage(), p.Usage().Usage)
	_, err := p.Signal(15)
	require.ErrorIs(t, err, unix.ESRCH)
	require.NoError(t, p.Stop(wire.ReasonKilled))
	p.Release()
}

// What a Spawn says for the options.
func TestSpawnFrame(t *testing.T) {
	file, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer file.Close()
	fd := int(file.Fd())
	nofile, ok := hostNoFile()
	require.True(t, ok)
	null := Stdio{Mode: StdioNull}

	for _, c := range []struct {
		name  string
		o     Options
		check func(r *wire.SpawnRequest)
	}{
		{"defaults", Options{}, func(r *wire.SpawnRequest) {
			require.Equal(t, wire.SpawnCwdDescriptor, r.Flags)
			require.Zero(t, r.Timeout)
			require.EqualValues(t, 5*time.Second, r.KillTimeout)
			require.Equal(t, []wire.Rlimit{nofile}, r.Rlimits)
			require.Empty(t, r.Cwd.String())
			require.Empty(t, r.Env)
		}},
		{"flags", Options{Flags: Session | Linger | NoNewPrivs | Async}, func(r *wire.SpawnRequest) {
			require.Equal(t, wire.SpawnSession|wire.SpawnLinger|wire.SpawnNoNewPrivs|wire.SpawnCwdDescriptor, r.Flags)
		}},
		{"who", Options{Flags: SetUID | SetGID | SetGroups, UID: 1, GID: 2, Groups: []uint32{3, 4}}, func(r *wire.SpawnRequest) {
			require.Equal(t, wire.SpawnUID|wire.SpawnGID|wire.SpawnGroups|wire.SpawnCwdDescriptor, r.Flags)
			require.Equal(t, []uint32{1, 2, 3, 4}, append([]uint32{r.UID, r.GID}, r.Groups...))
		}},
		{"how", Options{Flags: SetUmask | SetNice, Umask: 0o27, Nice: -3}, func(r *wire.SpawnRequest) {
			require.Equal(t, wire.SpawnUmask|wire.SpawnNice|wire.SpawnCwdDescriptor, r.Flags)
			require.EqualValues(t, 0o27, r.Umask)
			require.EqualValues(t, -3, r.Nice)
		}},
		{"times", Options{Timeout: time.Hour, KillTimeout: time.Minute}, func(r *wire.SpawnRequest) {
			require.EqualValues(t, time.Hour, r.Timeout)
			require.EqualValues(t, time.Minute, r.KillTimeout)
		}},
		{"kill now", Options{KillTimeout: KillNow}, func(r *wire.SpawnRequest) {
			require.EqualValues(t, wire.KillNow, r.KillTimeout)
		}},
		{"limits after the host's own", Options{Rlimits: []wire.Rlimit{{Resource: 7, Soft: 8, Hard: 9}}}, func(r *wire.SpawnRequest) {
			require.Equal(t, []wire.Rlimit{nofile, {Resource: 7, Soft: 8, Hard: 9}}, r.Rlimits)
		}},
		{"lookup", Options{Argv: []string{"a", "b", "c"}, Env: []string{"X=1", "PATH=/x:/y"}}, func(r *wire.SpawnRequest) {
			require.Equal(t, "a", r.Program.String())
			require.Equal(t, "[/x/a /y/a]", fmt.Sprint(r.Paths))
			require.Equal(t, "[a b c]", fmt.Sprint(r.Argv))
			require.Equal(t, "[X=1 PATH=/x:/y]", fmt.Sprint(r.Env))
		}},
		{"file", Options{Argv: []string{"a"}, File: "/x/b"}, func(r *wire.SpawnRequest) {
			require.Equal(t, "[/x/b]", fmt.Sprint(r.Paths))
			require.Equal(t, "[a]", fmt.Sprint(r.Argv))
		}},
		{"absolute directory", Options{Cwd: "/x"}, func(r *wire.SpawnRequest) {
			require.Zero(t, r.Flags)
			require.Equal(t, "/x", r.Cwd.String())
		}},
		{"relative directory", Options{Cwd: "x"}, func(r *wire.SpawnRequest) {
			require.Equal(t, wire.SpawnCwdDescriptor, r.Flags)
			require.Equal(t, "x", r.Cwd.String())
		}},
		{"descriptors", Options{Cwd: "/", Stdin: null, Stdout: null, Stderr: Stdio{Mode: StdioStdout}, Descriptors: []Descriptor{{fd, 9}, {fd, 5}}}, func(r *wire.SpawnRequest) {
			require.Equal(t, []wire.File{{Source: 1, Target: 0}, {Source: 1, Target: 1}, {Source: 1, Target: 2}, {Source: 2, Target: 9}, {Source: 3, Target: 5}}, r.Files)
		}},
		{"terminal", Options{Cwd: "/", Flags: PTY, Stderr: null}, func(r *wire.SpawnRequest) {
			require.Equal(t, wire.SpawnTerminal, r.Flags)
			require.EqualValues(t, 1, r.Terminal)
			require.Equal(t, []wire.File{{Source: 1, Target: 0}, {Source: 1, Target: 1}, {Source: 2, Target: 2}}, r.Files)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			f := s.greeted()
			s.run(c.o)
			program := f.takes()
			c.check(program.request)
			if program.request.Flags&wire.SpawnCwdDescriptor != 0 {
				here, err := unix.Open(".", unix.O_PATH|unix.O_CLOEXEC, 0)
				require.NoError(t, err)
				require.True(t, sameFile(t, here, program.descriptors[1]))
				require.NoError(t, unix.Close(here))
			}
		})
	}
}

// After Launch the host holds no copy of what the program has: the end of a
// pipe would never be seen otherwise.
func TestLaunchGivesEndsAway(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.run(Options{Stderr: Stdio{Mode: StdioPipe}})
	program := f.takes()
	closeFiles(program.descriptors)
	program.descriptors = nil
	for _, i := range []int{Stdout, Stderr} {
		n, err := unix.Read(p.Streams()[i].FD, make([]byte, 1))
		require.NoError(t, err, "no EAGAIN: nobody has the other end")
		require.Zero(t, n)
	}
}

// Too much for any kernel is refused before it is sent.
func TestPrepareTooBig(t *testing.T) {
	checkDescriptors(t)
	o := Options{Argv: []string{"prog", strings.Repeat("x", wire.MaxPayload)}}
	_, err := newTestRunner().Prepare(&o, shepherdPath)
	require.ErrorIs(t, err, unix.E2BIG)
	require.ErrorContains(t, err, "execve prog: ")
	require.ErrorContains(t, err, " bytes of arguments and environment")
}

// A shepherd of another version is told apart, by its greeting, and given up.
func TestShepherdOfAnotherVersion(t *testing.T) {
	for name, hello := range map[string]wire.Hello{
		"version":  {Role: wire.RoleShepherd, Revision: wire.Revision, Version: "0.9.9"},
		"revision": {Role: wire.RoleShepherd, Revision: wire.Revision + 1, Version: testVersion},
	} {
		why := fmt.Sprintf("%s: is version %s (protocol %d), the library is version %s (protocol %d)",
			shepherdPath, hello.Version, hello.Revision, testVersion, wire.Revision)
		t.Run(name+" seen by Poll", func(t *testing.T) {
			s := newStage(t)
			f := s.adopt(-1)
			p := s.run(Options{})
			f.say(hello.Encode(0))
			state := p.Poll()
			require.Equal(t, Failed, state.Phase)
			requireError(t, state.Failure, unix.ENOPKG, why)
			require.True(t, s.runner.NeedsShepherd(shepherdPath))
			require.Equal(t, map[int]int{f.hostEnd: 1}, s.closed)
		})
		t.Run(name+" seen by Launch", func(t *testing.T) {
			s := newStage(t)
			f := s.adopt(-1)
			p := s.prepare(Options{})
			f.say(hello.Encode(0))
			f.end() // as a shepherd does that got our greeting
			_, err := p.Launch()
			requireError(t, err, unix.ENOPKG, why)
			require.True(t, s.runner.NeedsShepherd(shepherdPath))
		})
		t.Run(name+" seen after its end", func(t *testing.T) {
			s := newStage(t)
			f := s.adopt(-1)
			p := s.run(Options{})
			f.say(hello.Encode(0))
			program := f.talker
			f.next(wire.TypeHello)
			f.takes().end()
			program.end()
			state := p.Poll()
			require.Equal(t, Failed, state.Phase)
			requireError(t, state.Failure, unix.ENOPKG, why)
		})
	}
}

// Something else that was taken for a shepherd.
func TestNoShepherd(t *testing.T) {
	for _, c := range []struct {
		name string
		act  func(f *fakeShepherd)
		why  string
	}{
		{"ends at once", func(f *fakeShepherd) { f.end() }, "ended without a greeting: it is no netrunner-shepherd, or the kernel is too old for it, or short of processes or memory"},
		{"reads and ends", func(f *fakeShepherd) { _ = f.listen(); f.end() }, "ended without a greeting: it is no netrunner-shepherd, or the kernel is too old for it, or short of processes or memory"},
		{"talks", func(f *fakeShepherd) { f.say([]byte("Usage: frobnicate [options]\n")) }, "is no netrunner-shepherd: malformed frame: payload of 1734439765 bytes"},
		{"greets without magic", func(f *fakeShepherd) { f.say(wire.Frame(wire.TypeHello, 0, nil)) }, "is no netrunner-shepherd: malformed frame: 0 bytes where 4 are wanted"},
		{"echoes", func(f *fakeShepherd) {
			echo := make([]byte, 1<<10)
			n, err := unix.Read(f.socket, echo)
			require.NoError(f.t, err)
			f.say(echo[:n])
		}, "is no netrunner-shepherd: it echoes"},
		{"says something else", func(f *fakeShepherd) { f.say(exited(0)) }, "is no netrunner-shepherd: frame of type 9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			f := s.adopt(-1)
			p := s.run(Options{})
			c.act(f)
			state := p.Poll()
			require.Equal(t, Failed, state.Phase)
			requireError(t, state.Failure, unix.ENOPKG, shepherdPath+": "+c.why)
			require.Equal(t, map[int]int{f.hostEnd: 1}, s.closed)
			p.Release()
		})
	}
}

// One that just does not greet is given up after a while, and killed: it is
// not known to be something that ends by itself.
func TestShepherdThatDoesNotGreet(t *testing.T) {
	s := newStage(t)
	stranger := exec.CommandContext(t.Context(), "sleep", "1000")
	require.NoError(t, stranger.Start())
	defer func() { _ = stranger.Wait() }()
	pidfd, err := unix.PidfdOpen(stranger.Process.Pid, 0)
	require.NoError(t, err)
	f := s.adopt(pidfd)
	p := s.run(Options{})
	require.Equal(t, Starting, p.Poll().Phase)
	require.Greater(t, p.GreetingTimeout(), time.Duration(0))
	require.LessOrEqual(t, p.GreetingTimeout(), greetingTimeout)

	s.runner.shepherds[shepherdPath].deadline = time.Now().Add(-1)
	require.Equal(t, time.Duration(0), p.GreetingTimeout())
	state := p.Poll()
	require.Equal(t, Failed, state.Phase)
	requireError(t, state.Failure, unix.ENOPKG, shepherdPath+": did not greet, so it is no netrunner-shepherd")
	require.Equal(t, map[int]int{f.hostEnd: 1, pidfd: 1}, s.closed)
	var exit *exec.ExitError
	require.ErrorAs(t, stranger.Wait(), &exit)
	require.Equal(t, "signal: killed", exit.String())
}

// Once it has greeted a shepherd is trusted to end by itself: the pidfd is not
// kept.
func TestGreetingDropsPIDFD(t *testing.T) {
	s := newStage(t)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	require.NoError(t, err)
	f := s.adopt(pidfd)
	p := s.run(Options{})
	f.greet()
	require.Equal(t, Starting, p.Poll().Phase)
	require.Equal(t, map[int]int{pidfd: 1}, s.closed)
}

// When the shepherd has been killed, what has not been executed has failed, and
// of what ran nobody knows how it ended.
func TestShepherdDies(t *testing.T) {
	for _, order := range []string{"control socket first", "process sockets first"} {
		t.Run(order, func(t *testing.T) {
			s := newStage(t)
			f := s.greeted()
			starting, running, ended := s.run(Options{}), s.run(Options{}), s.run(Options{})
			one, two, three := f.takes(), f.takes(), f.takes()
			two.say(started(2))
			require.Equal(t, Running, running.Poll().Phase)
			three.say(started(3))
			three.say(exited(7)) // the last thing it did
			if order == "control socket first" {
				f.end()
			}
			for _, p := range []*fakeProgram{one, two, three} {
				p.end()
			}
			if order != "control socket first" {
				require.Equal(t, Lost, running.Poll().Phase)
				f.end()
			}

			state := starting.Poll()
			require.Equal(t, Failed, state.Phase)
			requireError(t, state.Failure, unix.EOWNERDEAD, "the shepherd was killed")
			require.Equal(t, Lost, running.Poll().Phase)
			require.Equal(t, Ended, ended.Poll().Phase)
			require.True(t, readable(t, running.Socket()))
			_, err := running.Signal(9)
			require.ErrorIs(t, err, unix.ESRCH)
			require.NoError(t, running.Stop(wire.ReasonKilled))
			for _, p := range []*Process{starting, running, ended} {
				p.Release()
			}
			require.Equal(t, map[int]int{f.hostEnd: 1}, s.closed)

			p := s.prepare(Options{})
			need, err := p.Launch()
			require.NoError(t, err)
			require.Equal(t, NeedShepherd, need.What, "the next one gets a new shepherd")
		})
	}
}

// A shepherd that lets go of one program, for whatever reason, is no reason to
// end the others.
func TestShepherdLetsGoOfOne(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	starting, running, sibling := s.run(Options{}), s.run(Options{}), s.run(Options{})
	one, two, three := f.takes(), f.takes(), f.takes()
	two.say(started(2))
	three.say(started(3))
	require.Equal(t, Running, running.Poll().Phase)
	one.end()
	require.Equal(t, Failed, pollUntilFinal(t, starting).Phase)
	two.end()
	require.Equal(t, Lost, running.Poll().Phase)
	require.Equal(t, Running, sibling.Poll().Phase)
	_, err := sibling.Signal(15)
	require.NoError(t, err)
	require.Equal(t, unix.EAGAIN, f.listen(), "the control socket is open, by whose end all would die")
	three.next(wire.TypeSignal)
	three.say(exited(1))
	require.Equal(t, Ended, sibling.Poll().Phase)
}

// A shepherd without room for the process socket can say so only on the
// control socket. Each refusal is for one program, and siblings live.
func TestShepherdOutOfDescriptors(t *testing.T) {
	refusal := (&wire.Failed{Errno: int32(unix.EMFILE), Why: "no descriptors left"}).Encode()
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("the programs' sockets end before: %t", late), func(t *testing.T) {
			s := newStage(t)
			f := s.greeted()
			sibling := s.run(Options{})
			kept := f.takes()
			kept.say(started(1))
			require.Equal(t, Running, sibling.Poll().Phase)
			refused := []*Process{s.run(Options{}), s.run(Options{}), s.run(Options{})}
			for range refused {
				program := f.takes()
				if !late {
					f.say(refusal)
				}
				program.end()
			}
			for i, p := range refused {
				var said sync.WaitGroup
				if late { // by the order of system calls in the shepherd
					said.Go(func() {
						time.Sleep(5 * time.Millisecond)
						f.say(refusal)
					})
				}
				state := pollUntilFinal(t, p)
				said.Wait()
				require.Equal(t, Failed, state.Phase)
				requireError(t, state.Failure, unix.EMFILE, "no descriptors left")
				require.Equal(t, Running, sibling.Poll().Phase, "after refusal %d", i)
				p.Release()
			}
			kept.say(exited(0))
			require.Equal(t, Ended, sibling.Poll().Phase)
		})
	}
}

// pollUntilFinal calls Poll as long as the socket says that there is news: a
// shepherd that has ended a socket may be about to say why elsewhere.
func pollUntilFinal(t *testing.T, p *Process) State {
	t.Helper()
	for deadline := time.Now().Add(hang); ; {
		state := p.Poll()
		if state.Final() {
			return state
		}
		require.True(t, readable(t, p.Socket()))
		require.True(t, time.Now().Before(deadline))
	}
}

func TestSignal(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.run(Options{})
	program := f.takes()
	for _, bad := range []int{-1, 65, math.MaxInt32} {
		_, err := p.Signal(bad)
		requireError(t, err, unix.EINVAL, fmt.Sprintf("no signal %d", bad))
	}
	program.nothing()

	// Also before the program has been executed.
	for i, number := range []int{0, 15, 64} {
		if i == 1 {
			program.say(started(1))
		}
		sequence, err := p.Signal(number)
		require.NoError(t, err)
		m := program.next(wire.TypeSignal)
		sent, err := wire.ParseSignal(m.payload)
		require.NoError(t, err)
		require.Equal(t, wire.Signal{Sequence: sequence, Number: int32(number)}, sent)
		require.NotEqual(t, sequence, p.Poll().Answered)
		program.say((&wire.Answer{Sequence: sequence, Errno: int32(i)}).Encode())
		state := p.Poll()
		require.Equal(t, sequence, state.Answered)
		require.EqualValues(t, i, state.AnswerErrno)
	}

	program.say(exited(0))
	_, err := p.Signal(15)
	requireError(t, err, unix.ESRCH, "the program has ended")
	program.nothing()
}

// A host that sends signals to a shepherd that does not read is told so, before
// a frame is cut.
func TestSignalToStoppedShepherd(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.run(Options{})
	program := f.takes()
	sent := 0
	for {
		_, err := p.Signal(0)
		if err != nil {
			requireError(t, err, unix.EAGAIN, "asking the shepherd: resource temporarily unavailable")
			break
		}
		sent++
		require.Less(t, sent, 1<<20)
	}
	require.Equal(t, unix.EAGAIN, program.listen())
	require.Len(t, program.messages, sent)
	_, err := p.Signal(0)
	require.NoError(t, err, "it reads again")
}

func TestStop(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.run(Options{})
	program := f.takes()
	for _, reason := range []wire.Reason{wire.ReasonKilled, wire.ReasonOutput} {
		require.NoError(t, p.Stop(reason))
		stop, err := wire.ParseStop(program.next(wire.TypeStop).payload)
		require.NoError(t, err)
		require.Equal(t, wire.Stop{Reason: reason}, stop)
	}
	program.say(exited(0))
	require.NoError(t, p.Stop(wire.ReasonKilled))
	program.nothing()
}

// Release says good-bye, so that the shepherd can tell it from the host's death.
func TestRelease(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.run(Options{})
	program := f.takes()
	program.say(started(1))
	for range 2 {
		p.Release()
	}
	program.next(wire.TypeRelease)
	require.Error(t, program.listen(), "the end")
	require.Empty(t, program.messages)
	_, err := p.Signal(15)
	require.ErrorIs(t, err, unix.ESRCH)
	require.NoError(t, p.Stop(wire.ReasonKilled))
	p.Poll()
	require.True(t, readable(t, p.Socket()), "who waits for it is woken")
}

// What lingers is stopped by the Release of a process that has ended.
func TestReleaseAfterEnd(t *testing.T) {
	for _, linger := range []bool{false, true} {
		s := newStage(t)
		f := s.greeted()
		o := Options{}
		if linger {
			o.Flags = Linger
		}
		p := s.run(o)
		program := f.takes()
		program.say(started(1))
		program.say(exited(0))
		require.Equal(t, Ended, p.Poll().Phase)
		p.Release()
		if linger {
			program.next(wire.TypeRelease)
		}
	}
}

// A full control socket makes Launch wait, not fail: the whole frame arrives
// once, with its descriptors, whoever sends the rest of it.
func TestLaunchNeedsRoom(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	big := strings.Repeat("x", 1<<20)
	first := s.prepare(Options{Argv: []string{"first", big}})
	second := s.prepare(Options{Argv: []string{"second", big}})
	need, err := first.Launch()
	require.NoError(t, err)
	require.Equal(t, Need{NeedRoom, f.hostEnd}, need)
	need, err = second.Launch()
	require.NoError(t, err)
	require.Equal(t, Need{NeedRoom, f.hostEnd}, need)
	require.Equal(t, Starting, first.Poll().Phase)
	require.Equal(t, Starting, second.Poll().Phase)

	waiting := []*Process{second, first} // the second one drives the first one's rest
	for rounds := 0; len(waiting) > 0; rounds++ {
		require.Less(t, rounds, 1000)
		_ = f.listen()
		var still []*Process
		for _, p := range waiting {
			need, err := p.Launch()
			require.NoError(t, err)
			if need.What != NeedNothing {
				still = append(still, p)
			}
		}
		waiting = still
	}
	for _, name := range []string{"first", "second"} {
		program := f.takes()
		require.Equal(t, name, program.request.Argv[0].String())
		require.Len(t, program.request.Argv[1], 1<<20+1)
		program.say(started(1))
	}
	require.Equal(t, Running, first.Poll().Phase)
	require.Equal(t, Running, second.Poll().Phase)
	f.nothing()
}

// A shepherd that dies with half a frame has not run the program: the next one
// gets it whole.
func TestShepherdDiesDuringLaunch(t *testing.T) {
	s := newStage(t)
	f := s.greeted()
	p := s.prepare(Options{Argv: []string{"prog", strings.Repeat("x", 1<<20)}})
	other := s.prepare(Options{Argv: []string{"other"}})
	need, err := p.Launch()
	require.NoError(t, err)
	require.Equal(t, NeedRoom, need.What)
	need, err = other.Launch()
	require.NoError(t, err)
	require.Equal(t, NeedRoom, need.What)
	f.end()
	for _, launched := range []*Process{other, p} {
		need, err = launched.Launch()
		require.NoError(t, err)
		require.Equal(t, Need{What: NeedShepherd}, need)
		require.Equal(t, Starting, launched.Poll().Phase)
	}

	f = s.greeted()
	s.launch(other)
	require.Equal(t, "other", f.takes().request.Argv[0].String())
	for {
		need, err := p.Launch()
		require.NoError(t, err)
		_ = f.listen()
		if need.What == NeedNothing {
			break
		}
	}
	program := f.takes()
	require.Len(t, program.request.Argv[1], 1<<20+1)
	program.say(started(1))
	require.Equal(t, Running, p.Poll().Phase)
}

// A host that has become somebody else runs nothing under the old shepherd,
// which ends with the last program that it has.
func TestIdentityChangeReplacesShepherd(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  Flags
		finish func(p *Process, program *fakeProgram)
	}{
		{"end", 0, func(p *Process, program *fakeProgram) { program.say(exited(0)); p.Poll() }},
		{"failure", 0, func(p *Process, program *fakeProgram) {
			program.say((&wire.Failed{Errno: 2, Why: "x"}).Encode())
			p.Poll()
		}},
		{"release", 0, func(p *Process, program *fakeProgram) { p.Release() }},
		{"release of what lingers", Linger, func(p *Process, program *fakeProgram) { p.Release() }},
		{"release of what lingers after the end", Linger, func(p *Process, program *fakeProgram) {
			program.say(exited(0))
			require.Equal(t, Ended, p.Poll().Phase)
			_, gone := unix.FcntlInt(uintptr(p.shepherd.control), unix.F_GETFD, 0)
			require.NoError(t, gone, "the shepherd is kept for what lingers")
			p.Release()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			old := s.greeted()
			p := s.run(Options{Flags: c.flags})
			program := old.takes()
			withLimit(t, unix.RLIMIT_CORE, func(l *unix.Rlimit) { l.Cur = otherLimit(l) })
			require.True(t, s.runner.NeedsShepherd(shepherdPath))
			next := s.prepare(Options{})
			need, err := next.Launch()
			require.NoError(t, err)
			require.Equal(t, NeedShepherd, need.What)
			f := s.greeted()
			s.launch(next)
			f.takes()
			require.Equal(t, unix.EAGAIN, old.listen(), "the old one still has a program")
			require.Empty(t, s.closed)

			c.finish(p, program)
			require.Equal(t, map[int]int{old.hostEnd: 1}, s.closed)
			require.False(t, s.runner.NeedsShepherd(shepherdPath))
			p.Release()
			require.Len(t, s.closed, 1)
		})
	}
}

// A program that is to have a shepherd of its own shares none, and its shepherd
// ends with it.
func TestOwnShepherd(t *testing.T) {
	for name, finish := range map[string]func(p *Process, program *fakeProgram){
		"end":     func(p *Process, program *fakeProgram) { program.say(exited(0)); p.Poll() },
		"failure": func(p *Process, program *fakeProgram) { program.say((&wire.Failed{Errno: 2}).Encode()); p.Poll() },
		"release": func(p *Process, program *fakeProgram) { p.Release() },
		"loss":    func(p *Process, program *fakeProgram) { program.say(started(1)); program.end(); p.Poll() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			shared := s.greeted()
			sibling := s.run(Options{})
			shared.takes()
			p := s.prepare(Options{Flags: OwnShepherd})
			require.True(t, p.NeedsShepherd())
			need, err := p.Launch()
			require.NoError(t, err)
			require.Equal(t, Need{What: NeedShepherd}, need)

			own := s.introduce(func(control int) error { return p.Adopt(control, -1) })
			require.False(t, p.NeedsShepherd())
			s.launch(p)
			own.next(wire.TypeHello)
			own.greet()
			program := own.takes()
			require.Equal(t, Starting, p.Poll().Phase)
			shared.nothing()

			finish(p, program)
			require.Equal(t, map[int]int{own.hostEnd: 1}, s.closed)
			require.False(t, s.runner.NeedsShepherd(shepherdPath))
			require.Equal(t, Starting, sibling.Poll().Phase)
			p.Release()
			require.Len(t, s.closed, 1)
		})
	}
	t.Run("never launched", func(t *testing.T) {
		s := newStage(t)
		p := s.prepare(Options{Flags: OwnShepherd})
		own := s.introduce(func(control int) error { return p.Adopt(control, -1) })
		p.Abandon()
		require.Equal(t, map[int]int{own.hostEnd: 1}, s.closed)
	})
	t.Run("dies before the launch", func(t *testing.T) {
		s := newStage(t)
		p := s.prepare(Options{Flags: OwnShepherd})
		s.introduce(func(control int) error { return p.Adopt(control, -1) }).end()
		need, err := p.Launch()
		if err == nil {
			require.Equal(t, NeedShepherd, need.What)
		} else {
			require.ErrorIs(t, err, unix.ENOPKG)
		}
		require.Len(t, s.closed, 1)
	})
}

// A program that shares its shepherd adopts it for all.
func TestProcessAdoptsForAll(t *testing.T) {
	s := newStage(t)
	p, q := s.prepare(Options{}), s.prepare(Options{})
	require.True(t, p.NeedsShepherd() && q.NeedsShepherd())
	f := s.introduce(func(control int) error { return p.Adopt(control, -1) })
	require.False(t, p.NeedsShepherd() || q.NeedsShepherd())
	s.launch(p)
	s.launch(q)
	f.next(wire.TypeHello)
	f.takes()
	f.takes()
}

// A shepherd that nothing runs under is let go at once.
func TestUnusedShepherdIsReplaced(t *testing.T) {
	s := newStage(t)
	old := s.greeted()
	s.greeted()
	require.Equal(t, map[int]int{old.hostEnd: 1}, s.closed)
}

// Whatever a shepherd sends that makes no sense is no panic, and leaves no
// descriptor open.
func TestNonsenseFromShepherd(t *testing.T) {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	for name, frame := range map[string][]byte{
		"garbage":         []byte("garbage garbage garbage"),
		"a Hello":         (&wire.Hello{}).Encode(0),
		"a short Started": wire.Frame(wire.TypeStarted, 0, nil),
		"a short Exited":  wire.Frame(wire.TypeExited, 0, nil),
		"a short Answer":  wire.Frame(wire.TypeAnswer, 0, nil),
		"a short Failed":  wire.Frame(wire.TypeFailed, 0, nil),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			f := s.greeted()
			p := s.run(Options{})
			program := f.takes()
			program.say(started(1))
			require.Equal(t, Running, p.Poll().Phase)
			before := len(descriptors(t))
			program.say(frame, fd, fd)
			require.Equal(t, Lost, p.Poll().Phase)
			require.Equal(t, before, len(descriptors(t)))
		})
	}
	t.Run("frames after the last", func(t *testing.T) {
		s := newStage(t)
		f := s.greeted()
		p := s.run(Options{})
		program := f.takes()
		program.say(append(append(started(1), exited(3)...), exited(4)...))
		state := p.Poll()
		require.True(t, state.Final())
		require.EqualValues(t, 3, state.Exit.Code)
	})
	t.Run("descriptors with frames that have none", func(t *testing.T) {
		s := newStage(t)
		f := s.adopt(-1)
		p := s.run(Options{})
		program := func() *fakeProgram { f.next(wire.TypeHello); return f.takes() }()
		before := len(descriptors(t))
		f.say((&wire.Hello{Role: wire.RoleShepherd, Revision: wire.Revision, Version: testVersion}).Encode(1), fd)
		program.say(started(1), fd)
		require.Equal(t, Running, p.Poll().Phase)
		require.Equal(t, before, len(descriptors(t)))
	})
}

// All methods at once, from many goroutines, while the program starts, is
// signalled and ends.
func TestConcurrentUse(t *testing.T) {
	for round := range 15 {
		s := newStage(t)
		f := s.adopt(-1)
		p := s.prepare(Options{})
		big := s.prepare(Options{Argv: []string{"big", strings.Repeat("x", 1<<20)}})
		stop := make(chan struct{})
		var users sync.WaitGroup
		for _, use := range []func(){
			func() { p.Poll(); big.Poll() },
			func() { _, _ = p.Signal(0) },
			func() { _ = p.Stop(wire.ReasonKilled) },
			func() { p.Usage(); p.GreetingTimeout(); big.GreetingTimeout(); p.Streams(); p.Socket() },
			func() { s.runner.NeedsShepherd(shepherdPath) },
		} {
			users.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						use()
					}
				}
			})
		}
		_, err := big.Launch() // for whom there is no room
		require.NoError(t, err)
		for {
			need, err := p.Launch()
			require.NoError(t, err)
			if need.What == NeedNothing {
				break
			}
			_ = f.listen()
			_, err = big.Launch()
			require.NoError(t, err)
		}
		f.greet()
		_ = f.listen()
		f.next(wire.TypeHello)
		f.takes()
		program := f.takes()
		require.Equal(t, "prog", program.request.Argv[0].String())
		program.say(started(int32(os.Getpid())))
		if round%2 == 0 {
			program.say(exited(0))
		}
		if round%3 == 0 {
			program.end()
		}
		if round%5 == 0 {
			f.end()
		}
		p.Release()
		close(stop)
		users.Wait()
		p.Poll()
	}
}

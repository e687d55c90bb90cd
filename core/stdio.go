// SPDX-License-Identifier: Apache-2.0

package core

import (
	"golang.org/x/sys/unix"

	"libnetrunner/core/wire"
)

// The standard streams, as indices and as the program's descriptors.
const (
	Stdin  = 0
	Stdout = 1
	Stderr = 2
)

var streamNames = [3]string{"in", "out", "err"}

// Stream is the host's end of a stream of the program.
type Stream struct {
	FD       int  // non-blocking, close-on-exec; -1: not connected to the host
	Terminal bool // the master of the program's terminal
}

// plumbing collects the descriptors of one spawn: those for the frame, which
// are closed here once they have been sent, and the host's ends.
type plumbing struct {
	streams  [3]Stream
	terminal int32 // the program's descriptor that is its terminal, or -1

	descriptors []int // attached to the frame, in order
	own         []int // the ones among them that are ours to close
	files       []wire.File
}

// pass adds a descriptor to the frame and returns its index there.
func (p *plumbing) pass(fd int, own bool) int32 {
	p.descriptors = append(p.descriptors, fd)
	if own {
		p.own = append(p.own, fd)
	}
	return int32(len(p.descriptors) - 1)
}

// connect makes the descriptor with that index the program's target.
func (p *plumbing) connect(index int32, target int) {
	p.files = append(p.files, wire.File{Source: index, Target: int32(target)})
}

// closePassed closes our copies of what the program gets.
func (p *plumbing) closePassed() {
	for _, fd := range p.own {
		_ = unix.Close(fd)
	}
	p.own, p.descriptors = nil, nil
}

// closeAll undoes everything.
func (p *plumbing) closeAll() {
	p.closePassed()
	for i := range p.streams {
		if p.streams[i].FD >= 0 {
			_ = unix.Close(p.streams[i].FD)
			p.streams[i].FD = -1
		}
	}
}

// plumb makes the pipes and the terminal that o asks for and adds all
// descriptors of the program to p.
func (p *plumbing) plumb(o *Options) error {
	modes := [3]Stdio{o.Stdin, o.Stdout, o.Stderr}
	for i := range p.streams {
		p.streams[i].FD = -1
	}
	p.terminal = -1

	slave := int32(-1)
	if o.Flags&PTY != 0 {
		index, err := p.openTerminal(o, modes)
		if err != nil {
			return err
		}
		slave = index
	}

	null := int32(-1)
	for i, stdio := range modes {
		var index int32
		var err error
		switch mode := stdio.Mode; {
		case mode == StdioAuto && slave >= 0:
			index = slave
			if p.terminal < 0 {
				p.terminal = int32(i)
			}
		case mode == StdioAuto && i == Stderr && !isOpen(i), mode == StdioNull:
			// A daemon that closed its standard error runs programs all the same.
			if null < 0 {
				null, err = p.openNull()
			}
			index = null
		case mode == StdioInherit, mode == StdioAuto && i == Stderr:
			index, err = p.passOpen(i, streamNames[i]+": NR_STDIO_INHERIT of descriptor %d")
		case mode == StdioFD:
			index, err = p.passOpen(stdio.FD, streamNames[i]+": descriptor %d")
		case mode == StdioStdout:
			index = p.files[Stdout].Source
		default:
			index, err = p.openPipe(i, o.PipeSize)
		}
		if err != nil {
			return err
		}
		p.connect(index, i)
	}
	for _, d := range o.Descriptors {
		index, err := p.passOpen(d.FD, "fds: descriptor %d")
		if err != nil {
			return err
		}
		p.connect(index, d.Target)
	}
	return nil
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// passOpen passes a descriptor that is not ours.
func (p *plumbing) passOpen(fd int, what string) (int32, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return 0, failed(err, what, fd)
	}
	return p.pass(fd, false), nil
}

func (p *plumbing) openNull() (int32, error) {
	fd, err := aboveStdio(unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0))
	if err != nil {
		return 0, failed(err, "open /dev/null")
	}
	return p.pass(fd, true), nil
}

func (p *plumbing) openPipe(stream, size int) (int32, error) {
	ends, err := newPipe()
	if err != nil {
		return 0, failed(err, "pipe2")
	}
	host, program := ends[0], ends[1]
	if stream == Stdin {
		host, program = program, host
	}
	index := p.pass(program, true)
	p.streams[stream].FD = host
	if err := unix.SetNonblock(host, true); err != nil {
		return 0, failed(err, "fcntl F_SETFL O_NONBLOCK")
	}
	if size > 0 {
		if err := setPipeSize(host, size); err != nil {
			return 0, failed(err, "pipe_size: fcntl F_SETPIPE_SZ %d", size)
		}
	}
	return index, nil
}

// openTerminal makes the program's terminal. The host gets one descriptor of
// the master for input and one for output, each closed on its own; when both
// are closed the program sees a hang-up.
func (p *plumbing) openTerminal(o *Options, modes [3]Stdio) (int32, error) {
	onTerminal := func(i int) bool { return modes[i].Mode == StdioAuto }
	output := Stdout
	if !onTerminal(Stdout) {
		output = Stderr
	}
	if !onTerminal(Stdin) && !onTerminal(output) {
		return 0, invalid("NR_PTY: in, out and err are all something else")
	}
	master, slave, err := openPTY()
	if err != nil {
		return 0, err
	}
	index := p.pass(slave, true)
	if !onTerminal(output) {
		p.streams[Stdin] = Stream{FD: master, Terminal: true}
	} else {
		p.streams[output] = Stream{FD: master, Terminal: true}
		if onTerminal(Stdin) {
			input, err := unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				return 0, failed(err, "fcntl F_DUPFD_CLOEXEC")
			}
			p.streams[Stdin] = Stream{FD: input, Terminal: true}
		}
	}
	if err := setUpTerminal(master, slave, o); err != nil {
		return 0, err
	}
	return index, nil
}

// aboveStdio moves a descriptor of ours out of the way of 0, 1 and 2, which a
// host that closed them may open anew at any time.
func aboveStdio(fd int, err error) (int, error) {
	if err != nil || fd > 2 {
		return fd, err
	}
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	_ = unix.Close(fd)
	return moved, err
}

// pairAboveStdio is aboveStdio for two, of which neither stays open after an
// error.
func pairAboveStdio(pair [2]int, err error) ([2]int, error) {
	if err != nil {
		return pair, err
	}
	if pair[0], err = aboveStdio(pair[0], nil); err != nil {
		_ = unix.Close(pair[1])
		return pair, err
	}
	if pair[1], err = aboveStdio(pair[1], nil); err != nil {
		_ = unix.Close(pair[0])
	}
	return pair, err
}

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
	terminal int32 // the index of the program's terminal among the descriptors
	master   int   // of the terminal, or -1

	descriptors []int // attached to the frame, in order
	own         []int // the ones among them that are ours to close
	files       []wire.File
}

// newPlumbing holds no descriptor yet. Zero would be one: the host's stdin.
func newPlumbing() plumbing {
	none := Stream{FD: -1}
	return plumbing{streams: [3]Stream{none, none, none}, terminal: -1, master: -1}
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
	if p.master >= 0 {
		_ = unix.Close(p.master)
		p.master = -1
	}
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
	if o.Flags&PTY != 0 {
		if err := p.openTerminal(o, modes); err != nil {
			return err
		}
	}

	null := int32(-1)
	for i, stdio := range modes {
		var index int32
		var err error
		switch mode := stdio.Mode; {
		case mode == StdioAuto && o.Flags&PTY != 0:
			index = p.terminal
		case mode == StdioAuto && i == Stderr && !isOpen(i), mode == StdioNull:
			// A daemon that closed its standard error runs programs all the same.
			if null < 0 {
				null, err = p.openNull()
			}
			index = null
		case mode == StdioInherit, mode == StdioAuto && i == Stderr:
			index = p.pass(i, false)
		case mode == StdioFD:
			index = p.pass(stdio.FD, false)
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
		p.connect(p.pass(d.FD, false), d.Target)
	}
	return nil
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// checkOpen refuses descriptors of the caller's that are not open, before any
// of ours can take their numbers.
func (o *Options) checkOpen() error {
	closed := func(fd int, format string, args ...any) error {
		return failed(unix.EBADF, format+" %d", append(args, fd)...)
	}
	for i, stdio := range [3]Stdio{o.Stdin, o.Stdout, o.Stderr} {
		if stdio.Mode == StdioInherit && !isOpen(i) {
			return closed(i, "%s: NR_STDIO_INHERIT of descriptor", streamNames[i])
		}
		if stdio.Mode == StdioFD && !isOpen(stdio.FD) {
			return closed(stdio.FD, "%s: descriptor", streamNames[i])
		}
	}
	for _, d := range o.Descriptors {
		if !isOpen(d.FD) {
			return closed(d.FD, "fds: descriptor")
		}
	}
	return nil
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
	if err := setNonblock(host); err != nil {
		return 0, failed(err, "fcntl F_SETFL O_NONBLOCK")
	}
	if size > 0 {
		if err := setPipeSize(host, size); err != nil {
			return 0, failed(err, "pipe_size: fcntl F_SETPIPE_SZ %d", size)
		}
	}
	return index, nil
}

// openTerminal makes the program's terminal. The host gets a descriptor of the
// master for input and one for output, each closed on its own, and one that
// stays: without it the last close would be a hang-up, which throws away the
// input, its end included, that the program has not read.
func (p *plumbing) openTerminal(o *Options, modes [3]Stdio) error {
	master, slave, err := openPTY()
	if err != nil {
		return err
	}
	p.master = master
	p.terminal = p.pass(slave, true)
	connect := func(stream int) error {
		if modes[stream].Mode != StdioAuto {
			return nil
		}
		fd, err := unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return failed(err, "fcntl F_DUPFD_CLOEXEC")
		}
		p.streams[stream] = Stream{FD: fd, Terminal: true}
		return nil
	}
	output := Stdout
	if modes[Stdout].Mode != StdioAuto {
		output = Stderr
	}
	if err := connect(Stdin); err != nil {
		return err
	}
	if err := connect(output); err != nil {
		return err
	}
	return setUpTerminal(master, slave, o)
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

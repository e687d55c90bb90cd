// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// Send sends as much of b as the socket takes without blocking, with
// descriptors attached to the first byte, and returns how much that was. It
// never raises SIGPIPE.
func Send(fd int, b []byte, descriptors []int) (int, error) {
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	for {
		n, err := unix.SendmsgN(fd, b, rights, nil, unix.MSG_DONTWAIT|msgNoSignal)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Reader puts the frames of one socket together. It keeps no memory between
// frames.
type Reader struct {
	partial     []byte // the front of a frame whose rest has not arrived
	descriptors []int  // what came with it
}

// Handler is called with each whole frame. payload is valid during the call.
// The descriptors, which may be more or fewer than the header says, are the
// handler's to close. An error ends the reading.
type Handler func(h Header, payload []byte, descriptors []int) error

// Read receives once from fd, without blocking, and hands on the frames that
// are whole by then. scratch is where it receives to; its size bounds how much
// is taken at once. It returns io.EOF when the other side has ended, EAGAIN
// when nothing was there, and an error that wraps ErrMalformed when the bytes
// make no sense; then there is no way to read on.
func (r *Reader) Read(fd int, scratch []byte, handle Handler) error {
	received, descriptors, err := receive(fd, scratch)
	if err != nil {
		return err
	}

	frames := received
	if len(r.partial) > 0 {
		frames = append(r.partial, received...)
	}
	consumed := len(r.partial) == 0
	for len(frames) >= HeaderSize {
		h, err := ParseHeader(frames)
		if err != nil {
			closeAll(descriptors)
			r.Close()
			return err
		}
		end := HeaderSize + h.Length
		if len(frames) < end {
			break
		}
		// A message with descriptors is never merged with what follows it
		// (unix_stream_read_generic in net/unix/af_unix.c), so the ones just
		// received are those of the last frame that has begun.
		mine := r.descriptors
		r.descriptors = nil
		if len(frames) == end {
			mine = append(mine, descriptors...)
			descriptors = nil
		}
		if err := handle(h, frames[HeaderSize:end:end], mine); err != nil {
			closeAll(descriptors)
			r.Close()
			return err
		}
		frames = frames[end:]
		consumed = true
	}
	r.descriptors = append(r.descriptors, descriptors...)
	if len(r.descriptors) > MaxDescriptors {
		r.Close()
		return malformed("more than %d descriptors", MaxDescriptors)
	}
	switch {
	case len(frames) == 0:
		r.partial = nil
	case consumed:
		r.partial = append([]byte(nil), frames...) // scratch is not ours
	default:
		r.partial = frames
	}
	return nil
}

// Close drops what has arrived of a frame.
func (r *Reader) Close() {
	closeAll(r.descriptors)
	r.partial, r.descriptors = nil, nil
}

// controls are where receive gets descriptors.
var controls = sync.Pool{New: func() any { return new([maxRights]byte) }}

func receive(fd int, scratch []byte) ([]byte, []int, error) {
	control := controls.Get().(*[maxRights]byte)
	defer controls.Put(control)
	var n, controlLen int
	var err error
	for {
		n, controlLen, _, _, err = unix.Recvmsg(fd, scratch, control[:], unix.MSG_DONTWAIT|msgCloexec)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, nil, err
	}
	descriptors, err := parseRights(control[:controlLen])
	if err != nil {
		return nil, nil, err
	}
	if n == 0 {
		closeAll(descriptors)
		return nil, nil, io.EOF
	}
	return scratch[:n], descriptors, nil
}

// maxRights holds MaxDescriptors and the control message's header.
const maxRights = 16 + 4*256

func parseRights(control []byte) ([]int, error) {
	if len(control) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var descriptors []int
	for i := range messages {
		// Other kinds of control messages are not asked for and do not come.
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			descriptors = append(descriptors, fds...)
		}
	}
	return descriptors, nil
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		_ = unix.Close(fd)
	}
}

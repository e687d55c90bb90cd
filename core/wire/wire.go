// SPDX-License-Identifier: Apache-2.0

// Package wire is the protocol between the library, inside a host process, and
// its shepherd.
//
// Two kinds of sockets carry it, all of them unnamed AF_UNIX stream pairs:
//
//	control socket, one per shepherd      process socket, one per program
//
//	host                    shepherd      host                      shepherd
//	 │── Hello ────────────────▶│          │── Signal ─────────────────▶│
//	 │◀─────────────── Hello ───│          │── Stop ───────────────────▶│
//	 │── Spawn + descriptors ──▶│          │── Release ────────────────▶│
//	 │── Spawn + descriptors ──▶│          │◀─────── Started | Failed ──│
//	                                       │◀────────────────── Answer ─│
//	                                       │◀────────────────── Exited ─│
//
// The host does not wait for the shepherd's Hello before it sends its first
// Spawn: the shepherd checks the host's Hello first and answers with its own,
// so that each side can say which versions met, and then closes.
//
// The process socket travels with its Spawn. Its host end is the descriptor
// NR_EXIT: after Failed or Exited the shepherd ends its side, so that the
// descriptor stays readable for ever. End of file without one of the two means
// that the shepherd was killed. End of file at the shepherd's side without
// Release means that the host has died.
//
// A frame is a header of 8 bytes and a payload; numbers are little-endian:
//
//	uint32 length of the payload · uint8 type · uint8 0 · uint16 descriptors
//
// A frame's descriptors are attached to its first byte (SCM_RIGHTS).
//
// Both ends come from one build and must match exactly: there is no
// negotiation, and Revision changes with any change of this package.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Revision is the revision of the protocol. A library and a shepherd of
// different revisions refuse each other.
const Revision = 2

// HeaderSize is the number of bytes in front of each payload.
const HeaderSize = 8

// MaxPayload bounds a frame. Linux takes at most 6 MiB of arguments and
// environment, 3/4 of its _STK_LIM of 8 MiB (see bprm_stack_limits in
// fs/exec.c), so that nothing a kernel would take is refused here.
const MaxPayload = 8 << 20

// MaxDescriptors bounds the descriptors of one frame. The kernel takes 253 in
// one message (SCM_MAX_FD).
const MaxDescriptors = 250

// Type says what a frame is.
type Type uint8

// Types of frames.
const (
	TypeHello   Type = 1 + iota // both ways on the control socket, first
	TypeSpawn                   // host to shepherd, control socket
	TypeSignal                  // host to shepherd, process socket
	TypeStop                    // host to shepherd, process socket
	TypeRelease                 // host to shepherd, process socket
	TypeStarted                 // shepherd to host, process socket
	TypeFailed                  // shepherd to host, process socket
	TypeAnswer                  // shepherd to host, process socket
	TypeExited                  // shepherd to host, process socket
)

// ErrMalformed is wrapped by all errors of decoding.
var ErrMalformed = errors.New("malformed frame")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Header is what precedes each payload.
type Header struct {
	Length      int
	Type        Type
	Descriptors int
}

// ParseHeader decodes the first HeaderSize bytes of a frame.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, malformed("%d bytes of header", len(b))
	}
	length := binary.LittleEndian.Uint32(b)
	h := Header{Type: Type(b[4]), Descriptors: int(binary.LittleEndian.Uint16(b[6:]))}
	switch {
	case length > MaxPayload:
		return Header{}, malformed("payload of %d bytes", length)
	case h.Descriptors > MaxDescriptors:
		return Header{}, malformed("%d descriptors", h.Descriptors)
	case h.Type == 0 || h.Type > TypeExited || b[5] != 0:
		return Header{}, malformed("type %d.%d", b[4], b[5])
	}
	h.Length = int(length)
	return h, nil
}

// Frame encodes a whole frame: a header, and what put appends as its payload.
func Frame(t Type, descriptors int, put func(b []byte) []byte) []byte {
	b := make([]byte, HeaderSize, 64)
	if put != nil {
		b = put(b)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-HeaderSize))
	b[4] = byte(t)
	binary.LittleEndian.PutUint16(b[6:], uint16(descriptors))
	return b
}

// A decoder takes values off the front of a payload. It remembers the first
// error, after which all it yields is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.fail("%d bytes where %d are wanted", len(d.b), n)
		return nil
	}
	taken := d.b[:n:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = malformed(format, args...)
	}
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) i32() int32 { return int32(d.u32()) }
func (d *decoder) i64() int64 { return int64(d.u64()) }

// count takes the number of elements of a list whose elements have at least
// size bytes each, so that no absurd number makes us allocate.
func (d *decoder) count(size int) int {
	n := d.u32()
	if d.err == nil && uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.fail("a list of %d in %d bytes", n, len(d.b))
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// text takes a string and returns it with the NUL that ends it: a view into
// the frame, which can be handed to the kernel as it is.
func (d *decoder) text() CString {
	n := d.count(1)
	b := d.take(n + 1)
	if d.err != nil {
		return nil
	}
	for i, c := range b {
		if (c == 0) != (i == n) {
			d.fail("a string that does not end where it says")
			return nil
		}
	}
	return CString(b)
}

func (d *decoder) texts() []CString {
	n := d.count(5)
	list := make([]CString, n)
	for i := range list {
		list[i] = d.text()
	}
	return list
}

// finish returns the decoder's error; bytes left over are one.
func (d *decoder) finish() error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	return d.err
}

// CString is a string with the NUL that ends it, for the kernel.
type CString []byte

// MakeCString appends the NUL to s, which contains none.
func MakeCString(s string) CString { return append([]byte(s), 0) }

func (s CString) String() string {
	if len(s) == 0 {
		return ""
	}
	return string(s[:len(s)-1])
}

func putU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func putU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func putText(b []byte, s string) []byte {
	b = putU32(b, uint32(len(s)))
	b = append(b, s...)
	return append(b, 0)
}

func putTexts(b []byte, list []string) []byte {
	b = putU32(b, uint32(len(list)))
	for _, s := range list {
		b = putText(b, s)
	}
	return b
}

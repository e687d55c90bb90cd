// SPDX-License-Identifier: Apache-2.0

// Package core is the host's side of libnetrunner, without the C around it.
//
// It is passive. No goroutine, timer or poller runs here: every call turns
// into system calls that do not block, and whoever calls waits for the
// descriptors that it is told, in whatever way it likes. So the host's event
// loop stays the only one, and no thread of the host ever blocks inside Go.
//
// A Runner runs programs. Spawning is in steps, because two of them may have
// to wait:
//
//	p, err := runner.Prepare(&options)      // checks, makes pipes or a terminal
//	for {
//		need, err := p.Launch()         // hands the program to the shepherd
//		switch need.What {
//		case NeedShepherd:              // none runs: start need.Path,
//			runner.Adopt(...)       // introduce it, and try again
//		case NeedRoom:                  // wait until need.Socket is writable
//		case NeedNothing:               // sent
//		}
//	}
//	... wait until p.Socket() is readable ...
//	state := p.Poll()                       // Starting, Running, Failed, Ended, Lost
//
// Bytes never pass through here. Process.Streams are the host's ends of the
// pipes or the terminal, non-blocking, and belong to the caller.
package core

// SPDX-License-Identifier: Apache-2.0

// Package threads makes threads ahead. Under a process limit that is used up, be
// it by a fork bomb elsewhere, a Go program that needs another thread dies, and
// in a host so does the host.
package threads

import (
	"runtime"
	"sync"
)

// Make makes the runtime start n threads, which it keeps for later, or takes as
// many as it has kept. Each calls prepare first.
func Make(n int, prepare func()) {
	var started, done sync.WaitGroup
	release := make(chan struct{})
	started.Add(n)
	done.Add(n)
	for range n {
		go func() {
			runtime.LockOSThread()
			prepare()
			started.Done()
			<-release
			runtime.UnlockOSThread() // a thread that ends unlocked goes to the pool
			done.Done()
		}()
	}
	started.Wait()
	close(release)
	done.Wait()
}

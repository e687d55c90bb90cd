// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Nobody is in it twice, nobody is forgotten, also while the runtime stops all.
func TestMutex(t *testing.T) {
	const threads, turns = 8, 5000
	var m mutex
	var inside, entered int
	var all sync.WaitGroup
	for range threads {
		all.Add(1)
		go func() {
			defer all.Done()
			runtime.LockOSThread()
			for i := range turns {
				m.Lock()
				inside++
				if i%64 == 0 {
					runtime.Gosched() // for others to have to wait
				}
				if inside != 1 {
					t.Error("not alone")
				}
				inside--
				entered++
				m.Unlock()
				if i%1000 == 0 {
					runtime.GC()
				}
			}
		}()
	}
	all.Wait()
	require.Equal(t, threads*turns, entered)
	require.EqualValues(t, free, m.state.Load())
	require.Panics(t, m.Unlock)
}

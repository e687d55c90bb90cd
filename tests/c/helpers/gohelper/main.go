// SPDX-License-Identifier: Apache-2.0

// Command gohelper is a library in Go that has nothing to do with ours, for
// hosts that have both.
package main

import "C"

import (
	"runtime"
	"sync"
)

func main() {}

// other_work makes garbage in some goroutines, collects it, and returns n.
//
//export other_work
func other_work(n C.int) C.int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	sum := 0
	for range 4 {
		wg.Go(func() {
			for i := range int(n) {
				if b := make([]byte, 1000+i); len(b) > 0 {
					mu.Lock()
					sum++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	runtime.GC()
	return C.int(sum / 4)
}

// other_fault recovers from a fault, and returns 1.
//
//export other_fault
func other_fault() (result C.int) {
	defer func() {
		if recover() != nil {
			result = 1
		}
	}()
	var p *int
	return C.int(*p)
}

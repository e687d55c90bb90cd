// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// Command netrunner-shepherd runs on Linux only.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "netrunner-shepherd: this system is not supported")
	os.Exit(1)
}

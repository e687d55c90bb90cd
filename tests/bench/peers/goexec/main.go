// SPDX-License-Identifier: Apache-2.0

// Go's os/exec. Arguments and samples are those of peer.py.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const warmUp = 3

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "goexec:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 5 {
		return errors.New("usage: see peer.py")
	}
	count, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	switch args[2] {
	case "spawn":
		mib, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		memory, err := syscall.Mmap(-1, 0, max(mib, 1)<<20, syscall.PROT_READ|syscall.PROT_WRITE,
			syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < mib<<20; i += os.Getpagesize() {
			memory[i] = 1
		}
		for n := -warmUp; n < count; n++ {
			if err := spawn(n >= 0, args[5:]); err != nil {
				return err
			}
		}
		return nil
	case "read":
		return read(count, args[4:])
	case "echo":
		return echo(count, args[4:])
	case "turn":
		return turn(count, args[4:])
	}
	return errors.New("no such measure: " + args[2])
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

type pipes struct {
	in       io.WriteCloser
	out, err io.ReadCloser
}

func start(argv []string) (*exec.Cmd, pipes, error) {
	var p pipes
	cmd := exec.Command(argv[0], argv[1:]...)
	p.in, _ = cmd.StdinPipe()
	p.out, _ = cmd.StdoutPipe()
	p.err, _ = cmd.StderrPipe()
	return cmd, p, cmd.Start()
}

func spawn(counts bool, argv []string) error {
	started := time.Now()
	cmd, _, err := start(argv)
	if err != nil {
		return err
	}
	blocked := time.Since(started)
	if err := cmd.Wait(); err != nil {
		return err
	}
	ended := time.Since(started)
	if counts {
		fmt.Printf("blocked %.1f\nexit %.1f\n", us(blocked), us(ended))
	}
	return nil
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func read(mib int, argv []string) error {
	cmd, p, err := start(argv)
	if err != nil {
		return err
	}
	started, used, left := time.Now(), cpu(), mib<<20
	buf := make([]byte, 1<<16)
	for err == nil {
		var n int
		n, err = p.out.Read(buf)
		left -= n
	}
	fmt.Printf("read %.1f\ncpu %.1f\n", float64(mib)/time.Since(started).Seconds(), us(cpu()-used)/1e3)
	if err != io.EOF || left != 0 {
		return fmt.Errorf("%d bytes are missing: %w", left, err)
	}
	return cmd.Wait()
}

func echo(mib int, argv []string) error {
	data := make([]byte, mib<<20)
	started := time.Now()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(data)
	output, err := cmd.Output()
	fmt.Printf("echo %.2f\n", us(time.Since(started))/1e3)
	if err == nil && len(output) != len(data) {
		err = errors.New("bytes are missing")
	}
	return err
}

func turn(count int, argv []string) error {
	cmd, p, err := start(argv)
	if err != nil {
		return err
	}
	one := []byte("x")
	for n := -50; n < count; n++ {
		started := time.Now()
		if _, err := p.in.Write(one); err != nil {
			return err
		}
		if _, err := io.ReadFull(p.out, one); err != nil {
			return err
		}
		if n >= 0 {
			fmt.Printf("turn %.2f\n", us(time.Since(started)))
		}
	}
	p.in.Close()
	return cmd.Wait()
}

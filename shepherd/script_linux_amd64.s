// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func vforkScript(trap, a0, a1, a2, a3, a4 uintptr, rows *row, failed **row) (pid uintptr)
//
// clone(2) or clone3(2), then the child makes the system calls of the rows, in
// order, until one of them is an execve(2) that succeeds. The child shares our
// memory and our stack and must leave both alone: it lives in registers. Where a
// row has a child and its system call returns 0, as clone(2) does in a new
// process, it goes on there.
TEXT ·vforkScript(SB), NOSPLIT, $0-72
	MOVQ	trap+0(FP), AX
	MOVQ	a0+8(FP), DI
	MOVQ	a1+16(FP), SI
	MOVQ	a2+24(FP), DX
	MOVQ	a3+32(FP), R10
	MOVQ	a4+40(FP), R8
	MOVQ	rows+48(FP), R12
	MOVQ	failed+56(FP), R13
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, pid+64(FP)
	RET

child:
	MOVQ	0(R12), AX
	MOVQ	8(R12), DI
	MOVQ	16(R12), SI
	MOVQ	24(R12), DX
	MOVQ	32(R12), R10
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	56(R12), R14	// row.child: now, as the rows may be gone when a new process gets to run
	SYSCALL
	TESTQ	AX, AX
	JNE	store
	TESTQ	R14, R14
	JEQ	store
	MOVQ	R14, R12
	JMP	child

store:
	MOVQ	AX, 48(R12)	// row.result
	CMPQ	AX, $0xfffffffffffff001
	JCS	next		// no error
	NEGQ	AX
	CMPQ	AX, $64
	JCC	fail
	MOVQ	40(R12), CX	// row.tolerated
	BTQ	AX, CX
	JCC	fail

next:
	ADDQ	$64, R12
	JMP	child

fail:
	MOVQ	R12, 0(R13)
	MOVQ	$127, DI
	MOVQ	$231, AX	// exit_group
	SYSCALL
	INT	$3

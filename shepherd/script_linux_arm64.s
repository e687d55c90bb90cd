// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func vforkScript(trap, a0, a1, a2, a3, a4 uintptr, rows *row, failed **row) (pid uintptr)
//
// See script_linux_amd64.s.
TEXT ·vforkScript(SB), NOSPLIT, $0-72
	MOVD	trap+0(FP), R8
	MOVD	a0+8(FP), R0
	MOVD	a1+16(FP), R1
	MOVD	a2+24(FP), R2
	MOVD	a3+32(FP), R3
	MOVD	a4+40(FP), R4
	MOVD	rows+48(FP), R19
	MOVD	failed+56(FP), R20
	SVC
	CBZ	R0, child
	MOVD	R0, pid+64(FP)
	RET

child:
	MOVD	0(R19), R8
	MOVD	8(R19), R0
	MOVD	16(R19), R1
	MOVD	24(R19), R2
	MOVD	32(R19), R3
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	56(R19), R21	// row.child: now, as the rows may be gone when a new process gets to run
	SVC
	CBNZ	R0, store
	CBZ	R21, store
	MOVD	R21, R19
	B	child

store:
	MOVD	R0, 48(R19)	// row.result
	CMN	$4095, R0
	BCC	next		// no error
	NEG	R0, R0
	CMP	$64, R0
	BCS	fail
	MOVD	40(R19), R1	// row.tolerated
	LSR	R0, R1, R1
	TBNZ	$0, R1, next

fail:
	MOVD	R19, (R20)
	MOVD	$127, R0
	MOVD	$94, R8		// exit_group
	SVC
	BRK

next:
	ADD	$64, R19
	B	child

// SPDX-License-Identifier: Apache-2.0
//
// The program inside the container: ends at once, or (PAUSE) waits for a signal. It is as small as
// a program can be, so that what is measured is the runtime.

#include <asm/unistd.h>

	.globl _start
_start:
#ifdef PAUSE
	mov	$__NR_pause, %eax
	syscall
	jmp	_start
#else
	mov	$__NR_exit_group, %eax
	xor	%edi, %edi
	syscall
#endif
	.section .note.GNU-stack, "", @progbits

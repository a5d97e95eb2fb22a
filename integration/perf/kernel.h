// SPDX-License-Identifier: Apache-2.0
//
// The few things a program without a C library needs to call the kernel (x86_64).

#ifndef KERNEL_H
#define KERNEL_H

#ifndef __x86_64__
#error "the floor program is written for x86_64; add the system call sequence of your machine"
#endif

#include <asm/unistd.h>
#include <linux/types.h>

typedef unsigned long ulong;

static inline long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

// call(openat, dir, path, flags): the result, or -errno. Missing arguments are 0.
#define call(name, ...) call_(__NR_##name, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define call_(nr, a, b, c, d, e, f, ...) \
	call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

// gcc may emit calls to these for plain assignments.
void *memset(void *to, int byte, ulong len)
{
	for (ulong i = 0; i < len; i++)
		((volatile char *)to)[i] = byte;
	return to;
}

void *memcpy(void *to, const void *from, ulong len)
{
	for (ulong i = 0; i < len; i++)
		((volatile char *)to)[i] = ((const char *)from)[i];
	return to;
}

static inline ulong length(const char *text)
{
	ulong len = 0;
	while (text[len])
		len++;
	return len;
}

static inline int equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

// Appends text and ends it; returns the new end.
static inline char *append(char *end, const char *text)
{
	while (*text)
		*end++ = *text++;
	*end = 0;
	return end;
}

static inline char *append_number(char *end, ulong number)
{
	char digits[24];
	int len = 0;
	do
		digits[len++] = '0' + number % 10;
	while (number /= 10);
	while (len)
		*end++ = digits[--len];
	*end = 0;
	return end;
}

#define JOIN(buffer, ...)                                                             \
	({                                                                            \
		const char *parts_[] = {__VA_ARGS__};                                 \
		char *end_ = (buffer);                                                \
		for (ulong i_ = 0; i_ < sizeof parts_ / sizeof *parts_; i_++)         \
			end_ = append(end_, parts_[i_]);                              \
		(buffer);                                                             \
	})

#endif

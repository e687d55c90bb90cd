/* SPDX-License-Identifier: Apache-2.0 */

#ifndef PATTERN_H
#define PATTERN_H

#include <stddef.h>
#include <stdint.h>

/*
 * Test data that shows a byte lost, doubled or moved: it has every byte value,
 * NUL included, and does not repeat after a power of two.
 */
static inline unsigned char pattern_byte(size_t i)
{
	return (unsigned char)((uint64_t)i * 2654435761u >> 13 ^ i);
}

static inline void pattern_fill(unsigned char *buf, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = pattern_byte(from + i);
}

#endif /* PATTERN_H */

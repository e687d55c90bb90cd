/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The programs that are run. Static, so that little of what is measured is theirs.
 *
 *     program                ends
 *     program stamp          writes the time at which it runs, and ends
 *     program idle           waits for ever
 *     program write MIB      writes so much, 128 KiB at a time as cat(1) does
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char buf[128 << 10];

	if (argc == 1)
		return 0;
	if (!strcmp(argv[1], "stamp")) {
		struct timespec t;
		int64_t ns;

		clock_gettime(CLOCK_MONOTONIC, &t);
		ns = t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
		return write(STDOUT_FILENO, &ns, sizeof ns) != sizeof ns;
	}
	if (!strcmp(argv[1], "idle"))
		for (;;)
			pause();
	if (argc == 3 && !strcmp(argv[1], "write")) {
		for (long n = atol(argv[2]) * 8; n > 0; n--)
			for (size_t done = 0; done < sizeof buf;) {
				ssize_t w = write(STDOUT_FILENO, buf + done, sizeof buf - done);

				if (w < 0)
					return 1;
				done += (size_t)w;
			}
		return 0;
	}
	return 2;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * libuv, with the arguments and samples of spawn.c and stream.c:
 *
 *     uv libuv spawn COUNT MIB FDS PROGRAM [ARGUMENT]...
 *     uv libuv rate COUNT OUTSTANDING PROGRAM [ARGUMENT]...
 *     uv libuv read MIB PIPE_SIZE PROGRAM [ARGUMENT]...
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "../proc.h"

/* Spawns before the first that counts, as in spawn.c. */
#define WARM_UP 3

static long running, finished;
static int64_t started, bytes, stamp;
static bool stamped;

static void release(uv_handle_t *handle)
{
	free(handle);
}

static void ended(uv_process_t *process, int64_t status, int signal)
{
	(void)status, (void)signal;
	running--;
	finished++;
	uv_close((uv_handle_t *)process, release);
	uv_stop(uv_default_loop());
}

static void give_buffer(uv_handle_t *handle, size_t wanted, uv_buf_t *buf)
{
	static char memory[64 << 10];

	(void)handle, (void)wanted;
	*buf = uv_buf_init(memory, sizeof memory);
}

static void got(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	if (n > 0) {
		bytes += n;
		stamped = n == sizeof stamp;
		if (stamped)
			memcpy(&stamp, buf->base, sizeof stamp);
	} else if (n < 0) {
		uv_close((uv_handle_t *)stream, release);
	}
}

static void start(char **argv)
{
	uv_process_t *process = calloc(1, sizeof *process);
	uv_stdio_container_t stdio[3];
	uv_process_options_t o = {
		.file = argv[0], .args = argv, .exit_cb = ended, .stdio = stdio, .stdio_count = 3
	};
	int error;

	for (int i = 0; i < 3; i++) {
		uv_pipe_t *pipe = calloc(1, sizeof *pipe);

		uv_pipe_init(uv_default_loop(), pipe, 0);
		stdio[i].flags = UV_CREATE_PIPE | (i == 0 ? UV_READABLE_PIPE : UV_WRITABLE_PIPE);
		stdio[i].data.stream = (uv_stream_t *)pipe;
	}
	error = uv_spawn(uv_default_loop(), process, &o);
	if (error)
		fail(argv[0], error);
	running++;
	uv_read_start(stdio[1].data.stream, give_buffer, got);
	uv_read_start(stdio[2].data.stream, give_buffer, got);
	uv_close((uv_handle_t *)stdio[0].data.stream, release);
}

static void one_by_one(long count, char **argv)
{
	for (long i = -WARM_UP; i < count; i++) {
		int64_t blocked, exit;

		stamped = false;
		started = now_ns();
		start(argv);
		blocked = now_ns();
		while (running > 0)
			uv_run(uv_default_loop(), UV_RUN_DEFAULT);
		exit = now_ns();
		uv_run(uv_default_loop(), UV_RUN_DEFAULT); /* the pipes' ends */
		if (i < 0)
			continue;
		printf("blocked %.1f\nexit %.1f\n", (double)(blocked - started) / 1e3,
		       (double)(exit - started) / 1e3);
		if (stamped)
			printf("running %.1f\n", (double)(stamp - started) / 1e3);
	}
}

static void side_by_side(long count, long outstanding, char **argv)
{
	for (long n = -WARM_UP; n < count || running > 0;) {
		if (n == 0 && finished == WARM_UP)
			started = now_ns();
		while (n < count && running < outstanding && (n < 0 || finished >= WARM_UP)) {
			start(argv);
			n++;
		}
		uv_run(uv_default_loop(), UV_RUN_DEFAULT);
	}
	printf("rate %.1f\n", (double)count * 1e9 / (double)(now_ns() - started));
}

static double cpu_ms(void)
{
	uv_rusage_t u;

	uv_getrusage(&u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

static void read_all(long mib, char **argv)
{
	double cpu;

	start(argv);
	started = now_ns();
	cpu = cpu_ms();
	while (bytes < (int64_t)mib << 20)
		uv_run(uv_default_loop(), UV_RUN_ONCE);
	printf("read %.1f\n", (double)mib * 1e9 / (double)(now_ns() - started));
	printf("cpu %.1f\n", cpu_ms() - cpu);
	uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
	const char *what = argc > 5 ? argv[2] : "";

	if (!strcmp(what, "spawn") && argc > 6) {
		touch_memory(number(argv[4]));
		allow_descriptors(1024);
		for (long i = number(argv[5]); i > 0; i--)
			if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
				fail("/dev/null", errno);
		one_by_one(number(argv[3]), argv + 6);
	} else if (!strcmp(what, "rate")) {
		side_by_side(number(argv[3]), number(argv[4]), argv + 5);
	} else if (!strcmp(what, "read")) {
		read_all(number(argv[3]), argv + 5);
	} else {
		return fprintf(stderr, "usage: see the top of uv.c\n"), 2;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Wrong calls: pointers that lead nowhere, and eight threads that call at
 * random, with handles, sizes and numbers of every kind. All are errors, and
 * those who call properly notice nothing.
 *
 * NR_TEST_FUZZ_SECONDS is how long that goes on, NR_TEST_SEED repeats one.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"

/* A panic in Go is -EIO, and a line on stderr. */

static int stderr_ends[2];

static void begin_capture(void)
{
	open_pipe(stderr_ends);
	redirect(STDERR_FILENO, stderr_ends[1]);
}

/* What has come since the last look; the other end stays open. */
static const char *captured(void)
{
	char *text = check_alloc(4096);
	ssize_t n;

	if (!is_ready(stderr_ends[0], POLLIN))
		return "";
	n = read(stderr_ends[0], text, 4095);
	REQUIRE(n >= 0);
	return text;
}

static const char *nowhere(void)
{
	static void *page;

	if (!page)
		page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(page != MAP_FAILED);
	return page;
}

static void check_bug_line(const char *what)
{
	const char *line = captured();

	CHECK_CONTAINS(line, "libnetrunner: this is a bug", "%s", what);
	CHECK(*line && strchr(line, '\n') == line + strlen(line) - 1, "%s: not one line: %s", what,
	      line);
}

static void *fault(void *unused)
{
	const char *const bad[] = { (const char *)8, nowhere(), NULL };
	nr_proc p = spawn(OPTIONS(.argv = PROG("pause")));
	char text[64];

	for (int i = 0; i < 2; i++) {
		CHECK_EQ_INT(spawn_error(OPTIONS(.argv = PROG("exit", "0"), .file = bad[i]), NULL),
			     -EIO);
		check_bug_line("file");
		CHECK_EQ_INT(spawn_error(OPTIONS(.argv = PROG("exit", "0"), .cwd = bad[i]), NULL),
			     -EIO);
		check_bug_line("cwd");
		CHECK_EQ_INT(nr_cgroup_get(p, bad[i], text, sizeof text), -EIO);
		check_bug_line("cgroup file");
	}
	CHECK_EQ_INT(
		spawn_error(OPTIONS(.argv = (const char *const *)(const void *)nowhere()), NULL),
		-EIO);
	check_bug_line("argv");
	CHECK_EQ_INT(nr_wait(p, 0, NULL), -EAGAIN);
	release(p);
	CHECK_EQ_INT(run(OPTIONS(.argv = PROG("exit", "3")))->how.code, 3);
	return unused;
}

TEST(panics_are_eio)
{
	begin_capture();
	fault(NULL);
	/* In a thread that had its first call of another kind. */
	thread_join(thread_start(fault, NULL));
	CHECK_STR(captured(), "");
}

/* The fuzzer. */

enum { THREADS = 8, HANDLES = 24 };

static atomic_bool done;
static atomic_ulong calls;
static _Atomic nr_proc live[HANDLES];
static _Atomic nr_proc stale[HANDLES];
static int null_fd, pipe_fd;

struct fuzzer {
	uint64_t state;
	_Alignas(max_align_t) unsigned char zone[4096];
};

static uint64_t draw(struct fuzzer *f)
{
	f->state ^= f->state << 13;
	f->state ^= f->state >> 7;
	f->state ^= f->state << 17;
	return f->state * UINT64_C(2685821657736338717) >> 16;
}

static bool one_in(struct fuzzer *f, unsigned n)
{
	return draw(f) % n == 0;
}

#define PICK(f, ...) PICK_OF(f, ((const int64_t[]){ __VA_ARGS__ }))
#define PICK_OF(f, list) ((list)[draw(f) % COUNT_OF(list)])

/* never: no such handle can exist. */
static nr_proc draw_handle(struct fuzzer *f, bool *never)
{
	nr_proc p = atomic_load(&live[draw(f) % HANDLES]);

	*never = false;
	switch (draw(f) % 8) {
	case 0:
		p = atomic_load(&stale[draw(f) % HANDLES]);
		*never = p != 0;
		break;
	case 1:
		p = PICK(f, 0, -1, INT64_MIN, INT64_MAX, -4095, INT32_MIN);
		*never = true;
		break;
	case 2:
		p = (nr_proc)draw(f);
		break;
	case 3:
		p += PICK(f, 1 << 20, -(1 << 20), INT64_C(1) << 62);
		break;
	}
	return p;
}

static size_t draw_size(struct fuzzer *f, size_t right)
{
	return one_in(f, 2) ? right
			    : (size_t)PICK(f, 0, 1, 4, 7, 8, 9, (int64_t)right - 1,
					   (int64_t)right - 8, (int64_t)right + 8, 1000, 4096);
}

/* The library fills in no more than it has been told of. */
static void prepare_zone(struct fuzzer *f, size_t size)
{
	memset(f->zone, 0xa5, sizeof f->zone);
	memcpy(f->zone, &size, sizeof size);
}

static void check_zone(struct fuzzer *f, size_t size)
{
	for (size_t i = size > sizeof size ? size : sizeof size; i < sizeof f->zone; i++)
		if (!CHECK(f->zone[i] == 0xa5, "byte %zu of %zu was written", i, size))
			break;
}

static nr_stdio draw_stdio(struct fuzzer *f)
{
	nr_stdio s = { .mode = (int32_t)PICK(f, 0, 0, 0, 1, 1, 2, 4, 5) };

	if (one_in(f, 20))
		s.mode = (int32_t)PICK(f, -1, 6, INT32_MAX, INT32_MIN);
	s.fd = (int32_t)PICK(f, 0, null_fd, null_fd, pipe_fd, -1, 99999, INT32_MIN);
	return s;
}

static void fuzz_spawn(struct fuzzer *f)
{
	static const char *const programs[][3] = {
		{ "exit", "0" }, { "lines" }, { "pause" }, { "flood" }, { "ignore", "15" }
	};
	const char *const *program = programs[draw(f) % COUNT_OF(programs)];
	const char *const args[] = { testprog(), program[0], program[1], NULL };
	const char *const none[] = { NULL };
	const char *const empty[] = { "", NULL };
	const nr_fdmap fds[2] = { { null_fd, 5 }, { (int32_t)PICK(f, null_fd, -1, 99999), 5 } };
	const nr_rlimit limits[1] = { { .resource = (int32_t)PICK(f, -1, 4, 99, 15), .soft = 0 } };
	struct {
		nr_options o;
		char beyond[64];
	} big;
	nr_options *o = &big.o;
	char why[100];
	nr_proc p, before;
	size_t slot = draw(f) % HANDLES;

	memset(&big, 0, sizeof big);
	*o = (nr_options){ .size = sizeof *o,
			   .argv = args,
			   .in = draw_stdio(f),
			   .out = draw_stdio(f),
			   .err = one_in(f, 2) ? DEV_NULL : draw_stdio(f),
			   .kill_timeout_ms = PICK(f, NR_KILL_NOW, NR_KILL_NOW, 1, 50) };
	if (one_in(f, 4))
		o->flags = (uint64_t)PICK(f, NR_PTY, NR_PTY | NR_PTY_NOECHO, NR_SESSION, NR_ASYNC,
					  NR_LINGER, NR_NO_NEW_PRIVS, NR_SET_UMASK | NR_ASYNC);
	switch (draw(f) % 24) {
	case 0:
		o->flags = draw(f) & ~(uint64_t)(NR_SET_UID | NR_SET_GID | NR_SET_GROUPS);
		break;
	case 1:
		o->size = (size_t)PICK(f, 0, 1, 8, sizeof *o - 1, sizeof *o + 8, sizeof *o + 64, -1,
				       INT64_MAX, 5000);
		if (one_in(f, 2))
			big.beyond[draw(f) % sizeof big.beyond] = 1;
		break;
	case 2:
		o->argv = one_in(f, 2) ? NULL : one_in(f, 2) ? none : empty;
		break;
	case 3:
		o->file = one_in(f, 2) ? "" : "/nonexistent";
		break;
	case 4:
		o->env = one_in(f, 2) ? none : empty;
		break;
	case 5:
		o->cwd = one_in(f, 2) ? "" : "/nonexistent";
		break;
	case 6:
		o->fds = one_in(f, 2) ? fds : NULL;
		o->nfds = (size_t)PICK(f, 0, 1, 2, -1, INT64_MAX, 1 << 20);
		if (o->fds && o->nfds > 2)
			o->nfds = one_in(f, 2) ? SIZE_MAX : 2;
		break;
	case 7:
		o->rlimits = one_in(f, 2) ? limits : NULL;
		o->nrlimits = one_in(f, 2) ? 1 : SIZE_MAX;
		break;
	case 8:
		o->ngroups = SIZE_MAX;
		break;
	case 9:
		o->timeout_ms = PICK(f, -1, 1, 20, INT64_MAX, INT64_MIN);
		break;
	case 10:
		o->kill_timeout_ms = PICK(f, -2, INT64_MIN, 10, 0);
		break;
	case 11:
		o->output_limit = (uint64_t)PICK(f, 1, 10, -1);
		break;
	case 12:
		o->pipe_size = (uint32_t)PICK(f, 1, 4096, UINT32_MAX, 1 << 20);
		break;
	case 13:
		o->reserved = o->reserved0 = 1;
		break;
	case 14:
		o->cgroup_base = one_in(f, 2) ? "" : "/../..";
		o->cgroup_path = one_in(f, 2) ? "" : "../nonexistent";
		break;
	case 15:
		o->cgroup_set = one_in(f, 2) ? empty : none;
		break;
	case 16:
		o->rows = o->cols = UINT16_MAX;
		o->umask = UINT32_MAX;
		break;
	}
	p = nr_spawn(one_in(f, 50) ? NULL : o, one_in(f, 4) ? NULL : why,
		     (size_t)PICK(f, 0, 1, 2, sizeof why));
	CHECK(p != 0 && p > -4096 && p != -EIO, "nr_spawn is %lld", (long long)p);
	if (p <= 0)
		return;
	before = atomic_exchange(&live[slot], p);
	if (before > 0) {
		CHECK_EQ_INT(nr_release(before), 0);
		atomic_store(&stale[slot], before);
	}
}

static int64_t fuzz_handle(struct fuzzer *f, nr_proc p)
{
	static const char *const files[] = { NULL, "", "memory.max", "a/b", "../x", "." };
	char buf[300];
	size_t size;
	int64_t n;

	switch (draw(f) % 14) {
	case 0:
		return nr_why(p, one_in(f, 3) ? NULL : buf, (size_t)PICK(f, 0, 1, sizeof buf));
	case 1:
		return nr_pid(p);
	case 2:
		return nr_fd(p, (int)PICK(f, 0, 1, 2, 3, 4, -1, INT_MAX, INT_MIN));
	case 3:
		size = (size_t)PICK(f, 0, 1, 10, sizeof buf);
		n = nr_read(p, (int)PICK(f, 1, 1, 2, 0, 3, -1, INT_MIN, INT_MAX), buf, size);
		CHECK(n <= (int64_t)size);
		return n;
	case 4:
		return nr_read(p, NR_STDOUT, NULL, (size_t)PICK(f, 0, 1, -1));
	case 5:
		memset(buf, 'x', sizeof buf);
		size = (size_t)PICK(f, 0, 1, 10, sizeof buf);
		n = nr_write(p, buf, size);
		CHECK(n <= (int64_t)size);
		return n;
	case 6:
		return nr_write(p, NULL, (size_t)PICK(f, 0, 1, -1));
	case 7:
		return one_in(f, 4) ? nr_close_stdin(p)
		       : one_in(f, 4)
			       ? nr_close(p, (int)PICK(f, 0, 1, 2, 3, 4, -1, INT_MIN, INT_MAX))
			       : nr_close(p, (int)PICK(f, 3, 4, -1));
	case 8:
		return nr_winsize(p, (uint16_t)draw(f), (uint16_t)draw(f));
	case 9:
		return nr_kill(p,
			       (int)PICK(f, 0, SIGCONT, SIGTERM, SIGKILL, -1, 65, 1000, INT_MIN));
	case 10:
		size = draw_size(f, sizeof(nr_outcome));
		prepare_zone(f, size);
		n = nr_wait(p, (int)PICK(f, 0, 0, 1, -2, INT_MIN),
			    one_in(f, 4) ? NULL : (nr_outcome *)f->zone);
		check_zone(f, size);
		return n;
	case 11:
		size = draw_size(f, sizeof(nr_statistics));
		prepare_zone(f, size);
		n = nr_stats(p, one_in(f, 8) ? NULL : (nr_statistics *)f->zone);
		check_zone(f, size);
		return n;
	case 12:
		n = nr_cgroup_get(p, files[draw(f) % COUNT_OF(files)], one_in(f, 3) ? NULL : buf,
				  (size_t)PICK(f, 0, 1, sizeof buf));
		return n;
	default:
		return one_in(f, 2) ? nr_cgroup_set(p, files[draw(f) % COUNT_OF(files)],
						    files[draw(f) % COUNT_OF(files)])
				    : nr_stop(p);
	}
}

static void *fuzz(void *arg)
{
	struct fuzzer *f = arg;

	while (!atomic_load(&done) && !check_has_failed()) {
		bool never;
		nr_proc p = draw_handle(f, &never);
		size_t slot = draw(f) % HANDLES;
		int64_t n;

		atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
		if (one_in(f, 60)) {
			fuzz_spawn(f);
			continue;
		}
		if (one_in(f, 200)) {
			p = atomic_exchange(&live[slot], 0);
			if (p > 0) {
				CHECK_EQ_INT(nr_release(p), 0);
				atomic_store(&stale[slot], p);
			}
			continue;
		}
		if (never && one_in(f, 20)) {
			CHECK_EQ_INT(nr_release(p), -EBADF);
			continue;
		}
		if (one_in(f, 100)) {
			int code = (int)draw(f);

			CHECK(nr_strerror(code) && nr_errname(code) && nr_version());
			continue;
		}
		n = fuzz_handle(f, p);
		/* Some say first that their other arguments are wrong. */
		if (never)
			CHECK(n == -EBADF || n == -EINVAL, "%lld for handle %lld", (long long)n,
			      (long long)p);
		CHECK(n > -4096 && n != -EIO, "%lld for handle %lld", (long long)n, (long long)p);
	}
	return NULL;
}

HOST(that_misuses)
{
	const char *seconds = getenv("NR_TEST_FUZZ_SECONDS");
	const char *seed_text = getenv("NR_TEST_SEED");
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0)
				  : (uint64_t)check_now_ms() << 20 ^ (uint64_t)getpid();
	int64_t until = check_now_ms() + 1000 * (seconds ? atoll(seconds) : 5);
	thread *threads[THREADS];
	struct fd_list before, after;

	for (int i = 0; i < 3; i++)
		run(OPTIONS(.argv = PROG("exit", "0")));
	null_fd = open_file("/dev/null", O_RDWR);
	int ends[2];
	open_pipe(ends);
	pipe_fd = ends[1];
	REQUIRE(fcntl(pipe_fd, F_SETFL, O_NONBLOCK) == 0);
	REQUIRE(proc_fds(0, &before));
	for (size_t i = 0; i < THREADS; i++) {
		struct fuzzer *f = check_alloc(sizeof *f);

		f->state = seed * 2654435761u + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
		threads[i] = thread_start(fuzz, f);
	}
	while (!check_has_failed() && check_nap(until))
		continue;
	atomic_store(&done, true);
	for (size_t i = 0; i < THREADS; i++)
		thread_join(threads[i]);
	for (size_t i = 0; i < HANDLES; i++)
		if (atomic_load(&live[i]) > 0)
			release(live[i]);
	EVENTUALLY(count_alive() == 1); /* this one */
	run(OPTIONS(.argv = PROG("exit", "0")));
	REQUIRE(proc_fds(0, &after));
	CHECK(after.count <= before.count, "%zu descriptors, %zu before", after.count,
	      before.count);
	proc_fds_free(&before);
	proc_fds_free(&after);
	tell("%lu calls with seed %#llx%s", atomic_load(&calls), (unsigned long long)seed,
	     check_has_failed() ? ": failed" : "");
}

TEST(misuse_at_random)
{
	struct host *h = host_start(ARGV("that_misuses"));
	const char *line;
	int status = 0;

	/* A program may have said something, too. */
	while (*(line = host_line(h)) && !strstr(line, " calls with seed "))
		continue;
	printf("%s\n", line);
	status = host_end(h);
	CHECK_EQ_INT(status, 0, "%s", line);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The library loaded by dlopen(3), and beside other Go libraries. What these
 * hosts are linked with they do not use, but for the second of two copies.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "state.h"

/* The functions of one copy. */
struct library {
	void *handle;
	__typeof__(nr_spawn) *spawn;
	__typeof__(nr_wait) *wait;
	__typeof__(nr_release) *release;
	__typeof__(nr_version) *version;
	__typeof__(nr_read) *read;
};

/* A file of its own, so that the dynamic linker takes it for another library. */
static const char *copy_of_library(void)
{
	char path[PATH_MAX];
	Dl_info info;
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

	REQUIRE(n > 0);
	path[n] = '\0';
	/* nr_version itself may be an entry of this program's own. */
	void *linked = dlsym(RTLD_DEFAULT, "nr_version");
	REQUIRE(linked && dladdr(linked, &info), "%s", path);
	struct buffer b = { 0 };
	buffer_read_file(&b, info.dli_fname);
	const char *copy = scratch_path("libcopy.so");
	FILE *f = fopen(copy, "wxe");
	REQUIRE(f && fwrite(b.data, 1, b.len, f) == b.len && fclose(f) == 0, "%s", copy);
	return copy;
}

/* The shepherd is that of the library that the host is linked with. */
static const char *shepherd(void)
{
	char path[PATH_MAX];
	Dl_info info;

	REQUIRE(dladdr(dlsym(RTLD_DEFAULT, "nr_version"), &info));
	REQUIRE(realpath(info.dli_fname, path));
	strcpy(strrchr(path, '/'), "/netrunner-shepherd");
	return check_format("%s", path);
}

static void load(struct library *l, const char *path, int flags)
{
	l->handle = dlopen(path, RTLD_NOW | flags);
	REQUIRE(l->handle, "%s", dlerror());
	l->spawn = (__typeof__(l->spawn))dlsym(l->handle, "nr_spawn");
	l->wait = (__typeof__(l->wait))dlsym(l->handle, "nr_wait");
	l->release = (__typeof__(l->release))dlsym(l->handle, "nr_release");
	l->version = (__typeof__(l->version))dlsym(l->handle, "nr_version");
	l->read = (__typeof__(l->read))dlsym(l->handle, "nr_read");
	REQUIRE(l->spawn && l->wait && l->release && l->version && l->read);
	/* Not what the host is linked with. */
	REQUIRE((void *)l->spawn != dlsym(RTLD_DEFAULT, "nr_spawn"));
}

static const struct library linked = { .spawn = nr_spawn,
				       .wait = nr_wait,
				       .release = nr_release,
				       .version = nr_version,
				       .read = nr_read };

static void use(const struct library *l, const char *const *env)
{
	nr_outcome how = { .size = sizeof how };
	char why[256];
	nr_proc p = l->spawn(OPTIONS(.argv = PROG("exit", "11"), .out = DEV_NULL, .env = env,
				     .shepherd = shepherd()),
			     why, sizeof why);

	REQUIRE(p > 0, "-%s: %s", nr_errname((int)p), why);
	CHECK_EQ_INT(l->wait(p, (int)check_patience_ms(), &how), 0);
	CHECK_EQ_INT(how.code, 11);
	CHECK_EQ_INT(l->release(p), 0);
}

/* A bug, or a pointer that is none, in Go's half: a fault, a panic, -EIO. */
static void check_fault(const struct library *l)
{
	int silent = open_file("/dev/null", 1 /* O_WRONLY */);
	char why[256];
	nr_proc p;

	redirect(STDERR_FILENO, silent);
	p = l->spawn(
		OPTIONS(.argv = PROG("exit", "0"), .file = (const char *)8, .shepherd = shepherd()),
		why, sizeof why);
	CHECK_EQ_INT(p, -EIO);
}

/* dlopen(3) and dlclose(3) */

static int flags_of(const char *name)
{
	return strcmp(name, "global") == 0     ? RTLD_GLOBAL
	       : strcmp(name, "deepbind") == 0 ? RTLD_LOCAL | RTLD_DEEPBIND
					       : RTLD_LOCAL;
}

HOST(that_opens)
{
	const char *path = copy_of_library();
	struct state *before = state_now();
	struct tasks *threads = tasks_now();
	struct library l;

	load(&l, path, flags_of(argv[1]));
	CHECK_EQ_INT(l.version(), NR_VERSION);
	state_check(before, false, "after dlopen");
	CHECK_EQ_INT(tasks_now()->count, threads->count);
	/* It stays, whatever is done. */
	for (int i = 0; i < 20; i++) {
		CHECK_EQ_INT(dlclose(l.handle), 0);
		CHECK(dlopen(path, RTLD_NOW | RTLD_NOLOAD) == l.handle);
	}
	state_check(before, false, "after dlclose");
	CHECK_EQ_INT(tasks_now()->count, threads->count);
	use(&l, NULL);
	CHECK_EQ_INT(dlclose(l.handle), 0);
	use(&l, NULL);
	state_check(before, true, "after use");
	tasks_check_strangers(threads, "after use");
	check_fault(&l);
	use(&l, NULL);
}

TEST(library_may_be_opened_and_closed)
{
	static const char *const ways[] = { "local", "global", "deepbind" };

	for (size_t i = 0; i < COUNT_OF(ways); i++) {
#ifdef __SANITIZE_ADDRESS__
		if (strcmp(ways[i], "deepbind") == 0)
			continue; /* AddressSanitizer refuses it */
#endif
		host_run(ARGV("that_opens", ways[i]));
	}
}

static void *open_in_thread(void *arg)
{
	struct library *l = arg;

	load(l, getenv("NR_TEST_COPY"), RTLD_LOCAL);
	use(l, NULL);
	return NULL;
}

/* The thread that has opened it and made the first call ends. */
HOST(whose_thread_opens)
{
	struct library l;

	setenv("NR_TEST_COPY", copy_of_library(), 1);
	thread_join(thread_start(open_in_thread, &l));
	use(&l, NULL);
	check_fault(&l);
}

TEST(thread_that_opened_the_library_may_end)
{
	host_run(ARGV("whose_thread_opens"));
}

/* Two Go runtimes. */

struct user {
	const struct library *l;
	const char *const *env;
};

static void *use_often(void *arg)
{
	const struct user *u = arg;

	for (int i = 0; i < 40; i++)
		use(u->l, u->env);
	return NULL;
}

HOST(with_two_copies)
{
	const char *const *env = large_environment();
	struct library second;
	struct user users[2] = { { &linked, env }, { &second, env } };
	struct state *before = state_now();
	thread *threads[4];

	load(&second, copy_of_library(), RTLD_LOCAL);
	/* Not at once: each puts back what it has found. */
	use(&linked, NULL);
	use(&second, NULL);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		threads[i] = thread_start(use_often, &users[i % 2]);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		thread_join(threads[i]);
	state_check(before, true, "after use of two copies");
	/* Each gets its own faults, whichever was the second to start. */
	check_fault(&linked);
	check_fault(&second);
	use(&linked, NULL);
	use(&second, NULL);
}

TEST(two_copies_are_apart)
{
	for (int i = 0; i < 3; i++)
		host_run(ARGV("with_two_copies"));
}

/* A Go library as Go makes them: it starts when it is opened. */

static int (*other_work)(int n);
static int (*other_fault)(void);

static void open_other(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 16);
	void *other;

	REQUIRE(n > 0);
	path[n] = '\0';
	strcpy(strrchr(path, '/'), "/gohelper.so");
	other = dlopen(path, RTLD_NOW);
	REQUIRE(other, "%s", dlerror());
	other_work = (__typeof__(other_work))dlsym(other, "other_work");
	other_fault = (__typeof__(other_fault))dlsym(other, "other_fault");
	REQUIRE(other_work && other_fault);
}

static atomic_bool other_may_end;

static void *work_in_other(void *unused)
{
	while (!atomic_load(&other_may_end))
		CHECK_EQ_INT(other_work(1000), 1000);
	return unused;
}

HOST(with_another_go_library)
{
	struct user user = { &linked, large_environment() };
	bool first = strcmp(argv[1], "first") == 0;
	thread *users[2], *workers[2];

	if (first)
		open_other();
	use(&linked, NULL);
	if (!first)
		open_other();
	for (size_t i = 0; i < 2; i++) {
		users[i] = thread_start(use_often, &user);
		workers[i] = thread_start(work_in_other, NULL);
	}
	for (size_t i = 0; i < 2; i++)
		thread_join(users[i]);
	atomic_store(&other_may_end, true);
	for (size_t i = 0; i < 2; i++)
		thread_join(workers[i]);
	check_fault(&linked);
	CHECK_EQ_INT(other_fault(), 1);
	/* On one thread, in turn. */
	for (int i = 0; i < 20; i++) {
		use(&linked, NULL);
		CHECK_EQ_INT(other_work(10), 10);
		CHECK_EQ_INT(other_fault(), 1);
	}
}

TEST(another_go_library_may_be_there)
{
	static const char *const when[] = { "first", "second" };

	for (size_t i = 0; i < COUNT_OF(when); i++)
		host_run(ARGV("with_another_go_library", when[i]));
}

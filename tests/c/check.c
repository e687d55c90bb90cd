/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "netrunner.h"

/* Far more than any test takes; for a hang, not for slowness. */
#define WATCHDOG_SECONDS 120

/* How long after a test something that is on its way out may still be there. */
#define SETTLE_MS 5000

/* Longer than any fork takes to exec. */
#define LAST_LOOK_MS 200

struct block {
	struct block *next;
	struct block **link;
	_Alignas(max_align_t) char data[];
};

struct undo {
	void (*call)(void *arg);
	void *arg;
	struct undo *next;
};

enum how_left { RUNNING, FAILED_FATALLY, SKIPPED };

static struct check_item *items;
static struct check_item **items_end = &items;

static struct {
	const char *name;
	char mark[256];
	pthread_t thread;
	jmp_buf leave;
	bool is_host;
	atomic_int failures;

	pthread_mutex_t lock; /* of all below */
	struct block *blocks;
	struct undo *undos;
} running = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int scale = 1;

void check_register(struct check_item *item)
{
	*items_end = item;
	items_end = &item->next;
}

bool check_has_failed(void)
{
	return atomic_load(&running.failures) > 0;
}

const char *check_name(void)
{
	return running.name;
}

const char *check_mark(void)
{
	return running.mark;
}

int64_t check_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t check_patience_ms(void)
{
	return (int64_t)30000 * scale;
}

bool check_nap(int64_t until)
{
	if (check_now_ms() >= until)
		return false;
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	return true;
}

/* Memory and clean-up. */

static _Noreturn void out_of_memory(void)
{
	fprintf(stderr, "out of memory\n");
	abort();
}

static struct block *block_of(void *memory)
{
	return (struct block *)((char *)memory - offsetof(struct block, data));
}

static void link_block(struct block *b)
{
	b->link = &running.blocks;
	b->next = running.blocks;
	if (b->next)
		b->next->link = &b->next;
	running.blocks = b;
}

void *check_alloc(size_t len)
{
	struct block *b = calloc(1, sizeof *b + len);

	if (!b)
		out_of_memory();
	pthread_mutex_lock(&running.lock);
	link_block(b);
	pthread_mutex_unlock(&running.lock);
	return b->data;
}

void *check_grow(void *memory, size_t len)
{
	struct block *b;

	if (!memory)
		return check_alloc(len);
	b = block_of(memory);
	pthread_mutex_lock(&running.lock);
	*b->link = b->next;
	if (b->next)
		b->next->link = b->link;
	b = realloc(b, sizeof *b + len);
	if (!b)
		out_of_memory();
	link_block(b);
	pthread_mutex_unlock(&running.lock);
	return b->data;
}

char *check_format(const char *format, ...)
{
	va_list args;
	char *text;
	char *copy;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		out_of_memory();
	va_end(args);
	copy = check_alloc(strlen(text) + 1);
	strcpy(copy, text);
	free(text);
	return copy;
}

void check_defer(void (*undo)(void *arg), void *arg)
{
	struct undo *u = malloc(sizeof *u);

	if (!u)
		out_of_memory();
	u->call = undo;
	u->arg = arg;
	pthread_mutex_lock(&running.lock);
	u->next = running.undos;
	running.undos = u;
	pthread_mutex_unlock(&running.lock);
}

static void clean_up(void)
{
	while (running.undos) {
		struct undo *u = running.undos;

		running.undos = u->next;
		u->call(u->arg);
		free(u);
	}
	while (running.blocks) {
		struct block *b = running.blocks;

		running.blocks = b->next;
		free(b);
	}
}

/* Failures. */

static _Noreturn void leave(enum how_left how)
{
	if (running.is_host) {
		clean_up();
		exit(EXIT_FAILURE);
	}
	if (!pthread_equal(pthread_self(), running.thread))
		pthread_exit(NULL);
	longjmp(running.leave, how);
}

static void report(const char *file, int line, const char *what, const char *format, va_list args)
{
	char detail[2048];
	const char *base = strrchr(file, '/');

	vsnprintf(detail, sizeof detail, format, args);
	fflush(stdout);
	fprintf(stderr, "%s:%d: %s: %s%s\n", base ? base + 1 : file, line,
		running.name ? running.name : "warm-up", what,
		strcmp(detail, " ") == 0 ? "" : detail);
	atomic_fetch_add(&running.failures, 1);
}

#define REPORT(what)                                     \
	do {                                             \
		va_list args_;                           \
		va_start(args_, format);                 \
		report(file, line, what, format, args_); \
		va_end(args_);                           \
	} while (0)

bool check_true(bool holds, bool fatal, const char *file, int line, const char *expr,
		const char *format, ...)
{
	char what[600];

	if (holds)
		return true;
	snprintf(what, sizeof what, "not true: %s", expr);
	REPORT(what);
	if (fatal)
		leave(FAILED_FATALLY);
	return false;
}

/* Most numbers here are results of the library: negative ones have names. */
static void show_int(char *buf, size_t len, long long n)
{
	if (n < 0 && n > -4096)
		snprintf(buf, len, "%lld (-%s)", n, nr_errname((int)n));
	else
		snprintf(buf, len, "%lld", n);
}

bool check_int(long long actual, long long expected, bool fatal, const char *file, int line,
	       const char *expr, const char *format, ...)
{
	char what[600];
	char is[64];
	char should[64];

	if (actual == expected)
		return true;
	show_int(is, sizeof is, actual);
	show_int(should, sizeof should, expected);
	snprintf(what, sizeof what, "%s is %s, not %s", expr, is, should);
	REPORT(what);
	if (fatal)
		leave(FAILED_FATALLY);
	return false;
}

bool check_str(const char *actual, const char *expected, bool fatal, const char *file, int line,
	       const char *expr, const char *format, ...)
{
	char what[2400];

	if (actual && expected && strcmp(actual, expected) == 0)
		return true;
	snprintf(what, sizeof what, "%s is \"%.1000s\", not \"%.1000s\"", expr,
		 actual ? actual : "(null)", expected ? expected : "(null)");
	REPORT(what);
	if (fatal)
		leave(FAILED_FATALLY);
	return false;
}

bool check_mem(const void *actual, size_t len, const void *expected, size_t expected_len,
	       const char *file, int line, const char *expr, const char *format, ...)
{
	const unsigned char *a = actual;
	const unsigned char *b = expected;
	char what[600];
	size_t i = 0;

	while (i < len && i < expected_len && a[i] == b[i])
		i++;
	if (i == len && i == expected_len)
		return true;
	snprintf(what, sizeof what, "%s: %zu bytes, expected %zu, different from byte %zu on", expr,
		 len, expected_len, i);
	REPORT(what);
	return false;
}

bool check_contains(const char *text, const char *part, const char *file, int line,
		    const char *expr, const char *format, ...)
{
	char what[2400];

	if (text && strcasestr(text, part))
		return true;
	snprintf(what, sizeof what, "%s has no \"%.1000s\": \"%.1000s\"", expr, part,
		 text ? text : "(null)");
	REPORT(what);
	return false;
}

void check_skip(const char *format, ...)
{
	va_list args;

	printf("skip %s: ", running.name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	leave(SKIPPED);
}

/*
 * The watchdog: a thread that no signal reaches, so it does not disturb tests
 * about signals. A hang ends the whole program: the library's state is unknown
 * then, and its own promise is that all programs die with their host.
 */

static struct {
	pthread_mutex_t lock;
	int64_t deadline; /* 0: none */
} watchdog = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *watch(void *unused)
{
	for (;;) {
		int64_t deadline;

		nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
		pthread_mutex_lock(&watchdog.lock);
		deadline = watchdog.deadline;
		pthread_mutex_unlock(&watchdog.lock);
		if (deadline && check_now_ms() > deadline) {
			fprintf(stderr, "HUNG %s: still running after %d s\n",
				running.name ? running.name : "warm-up", WATCHDOG_SECONDS * scale);
			abort();
		}
	}
	return unused;
}

static void start_watchdog(void)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, watch, NULL) != 0)
		abort();
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void set_watchdog(bool on)
{
	pthread_mutex_lock(&watchdog.lock);
	watchdog.deadline = on ? check_now_ms() + (int64_t)WATCHDOG_SECONDS * 1000 * scale : 0;
	pthread_mutex_unlock(&watchdog.lock);
}

/* What a test must not leave behind. */

static void check_descriptors(const struct fd_list *before)
{
	int64_t until = check_now_ms() + (int64_t)SETTLE_MS * scale;
	struct fd_list now;

	for (;;) {
		if (!proc_fds(0, &now))
			abort();
		/* Fewer is fine: what the start of a shepherd needed for a while. */
		if (now.count <= before->count || !check_nap(until))
			break;
		proc_fds_free(&now);
	}
	if (!CHECK(now.count <= before->count, "%zu descriptors are open, %zu were before",
		   now.count, before->count)) {
		for (size_t i = 0; i < now.count; i++)
			if (!proc_fds_has(before, now.texts[i]))
				fprintf(stderr, "  new: %s\n", now.texts[i]);
	}
	proc_fds_free(&now);
}

static void check_zombies(void)
{
	siginfo_t info = { .si_pid = 0 };

	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) == 0 && info.si_pid) {
		CHECK(false, "child %d was left as a zombie", info.si_pid);
		info.si_pid = 0;
	}
}

static void check_processes(const char *mark)
{
	int64_t until = check_now_ms() + (int64_t)SETTLE_MS * scale;
	pid_t pids[64];
	size_t count;

	do
		count = proc_marked(mark, false, pids, 64);
	while (count && check_nap(until));
	for (size_t i = 0; i < count && i < 64; i++) {
		char text[256];

		proc_describe(pids[i], text, sizeof text);
		CHECK(false, "process was left: %s", text);
		if (proc_has_mark(pids[i], mark))
			kill(pids[i], SIGKILL);
	}
}

/* Running. */

static void begin(const struct check_item *item)
{
	running.name = item->name;
	running.thread = pthread_self();
	atomic_store(&running.failures, 0);
}

/* A function of its own, because longjmp() may spoil its caller's variables. */
static enum how_left run_until_left(void (*run)(void))
{
	enum how_left how = (enum how_left)setjmp(running.leave);

	if (how == RUNNING)
		run();
	return how;
}

static enum how_left run_test(const struct check_item *item)
{
	struct fd_list before;
	enum how_left how;

	begin(item);
	/* The point makes sure that no mark begins with another. */
	snprintf(running.mark, sizeof running.mark, "%s=%d-%s.", MARK_NAME, getpid(), item->name);
	setenv(MARK_NAME, running.mark + strlen(MARK_NAME) + 1, 1);
	if (!proc_fds(0, &before))
		abort();
	set_watchdog(true);
	how = run_until_left(item->test);
	clean_up();
	check_processes(running.mark);
	check_zombies();
	check_descriptors(&before);
	set_watchdog(false);
	proc_fds_free(&before);
	return how;
}

static int run_host(int argc, char **argv)
{
	const char *mark = getenv(MARK_NAME);

	for (const struct check_item *item = items; item; item = item->next) {
		if (!item->host || strcmp(item->name, argv[0]) != 0)
			continue;
		running.is_host = true;
		begin(item);
		snprintf(running.mark, sizeof running.mark, "%s=%s", MARK_NAME, mark ? mark : "");
		item->host(argc, argv);
		clean_up();
		return check_has_failed() ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	fprintf(stderr, "no host %s\n", argv[0]);
	return EXIT_FAILURE;
}

static bool is_selected(const struct check_item *item, int count, char **patterns)
{
	for (int i = 0; i < count; i++)
		if (fnmatch(patterns[i], item->name, 0) == 0)
			return true;
	return count == 0;
}

static void list_tests(int count, char **patterns)
{
	for (const struct check_item *item = items; item; item = item->next)
		if (item->test && is_selected(item, count, patterns))
			printf("%s\n", item->name);
}

struct counts {
	int passed;
	int failed;
	int skipped;
};

static void run_and_count(const struct check_item *item, struct counts *counts)
{
	int64_t start = check_now_ms();
	enum how_left how = run_test(item);

	if (check_has_failed()) {
		counts->failed++;
		printf("FAIL %s\n", item->name);
	} else if (how == SKIPPED) {
		counts->skipped++;
	} else {
		counts->passed++;
		printf("ok   %s (%lld ms)\n", item->name, (long long)(check_now_ms() - start));
	}
}

static bool warm_up(void)
{
	set_watchdog(true);
	running.thread = pthread_self();
	run_until_left(check_warm_up);
	clean_up();
	return !check_has_failed();
}

/*
 * A program that was still between fork and exec when its test ended had no
 * mark yet. So there is a last look, a moment after the last test.
 */
static bool finish(void)
{
	int64_t until = check_now_ms() + (int64_t)LAST_LOOK_MS * scale;
	char mark[64];

	while (check_nap(until))
		continue;
	running.name = "finish";
	atomic_store(&running.failures, 0);
	snprintf(mark, sizeof mark, "%s=%d-", MARK_NAME, getpid());
	check_processes(mark);
	return !check_has_failed();
}

static int usage(const char *name)
{
	fprintf(stderr, "usage: %s [-l] [-n COUNT] [NAME...]\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	const char *scale_text = getenv("NR_TEST_SCALE");
	struct counts counts = { 0 };
	int repeat = 1;
	bool list = false;
	int option;

	if (scale_text && atoi(scale_text) > 0)
		scale = atoi(scale_text);
	if (argc > 2 && strcmp(argv[1], "--host") == 0)
		return run_host(argc - 2, argv + 2);
	while ((option = getopt(argc, argv, "ln:")) != -1) {
		if (option == 'l')
			list = true;
		else if (option != 'n' || (repeat = atoi(optarg)) <= 0)
			return usage(argv[0]);
	}
	argc -= optind;
	argv += optind;
	if (list) {
		list_tests(argc, argv);
		return EXIT_SUCCESS;
	}

	setvbuf(stdout, NULL, _IOLBF, 0);
	start_watchdog();
	if (!warm_up()) {
		printf("FAIL warm-up\n");
		counts.failed++;
	}
	while (repeat-- > 0)
		for (const struct check_item *item = items; item; item = item->next)
			if (item->test && is_selected(item, argc, argv))
				run_and_count(item, &counts);
	if (!finish()) {
		printf("FAIL finish\n");
		counts.failed++;
	}
	if (counts.passed + counts.failed + counts.skipped == 0) {
		fprintf(stderr, "no such test\n");
		counts.failed++;
	}
	printf("%d passed, %d failed, %d skipped\n", counts.passed, counts.failed, counts.skipped);
	return counts.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * chaos - random hosts with random trees, and random faults.
 *
 *     chaos [-n ROUNDS] [-s SEED] [-v] [-x]
 *
 * A round starts one to three host processes, which do random things with the
 * library, and does something bad to each: see faults below. Some of the hosts
 * are written in Go and use the library's core directly. Then nothing of
 * the round may be left: no process, no zombie, and in a host that has survived
 * no descriptor more than before. What was written through a copying program
 * must have come back.
 *
 * The seed is printed first. The same seed makes the same plan again; when what
 * happens is up to the machine. The seed of a failed round is printed, too, and
 * -s with it makes that round the first one. -v prints the plans, -x stops at
 * the first failure. The last line is "N passed, N failed, N skipped".
 *
 * The trees are made by hostile, which ends all it makes after some time.
 */

#define _GNU_SOURCE
#include "helpers/hostile.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "helpers/pattern.h"
#include "netrunner.h"
#include "proc.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Far more than anything takes, but less than a tree lives by itself. */
#define PATIENCE_MS 40000
#define HOST_PATIENCE_MS 90000
#define TREE_LIFE "59"

#define MAX_HOSTS 3

/* Of the hosts, those that use the library's core in Go, without its C part. */
#define GO_PERCENT 30

/* Of the tag in the arguments of a host. */
#define TAG_PREFIX "tag="

/* Of a host that could not be run here. */
#define EXIT_SKIP 77

/* The hosts in gohost/ know these numbers, too. */
enum fault {
	NONE,
	HOST_KILLED,
	HOST_EXITS,
	SHEPHERD_KILLED,
	GUARDIAN_KILLED,
	HOST_AND_SHEPHERD_KILLED,
	HOST_AND_GUARDIAN_KILLED,
	LEADERS_KILLED,
	MEMBERS_KILLED,
	SHEPHERD_STOPPED,
	SHEPHERD_STOPPED_HOST_KILLED,
	FEW_DESCRIPTORS,
	FEW_PROCESSES,
	FAULTS
};

static const struct {
	const char *name;
	unsigned weight;
} faults[FAULTS] = {
	[NONE] = { "none", 5 },
	[HOST_KILLED] = { "host killed", 4 },
	[HOST_EXITS] = { "host exits", 2 },
	[SHEPHERD_KILLED] = { "shepherd killed", 3 },
	[GUARDIAN_KILLED] = { "guardian killed", 2 },
	[HOST_AND_SHEPHERD_KILLED] = { "host and shepherd killed", 3 },
	[HOST_AND_GUARDIAN_KILLED] = { "host and guardian killed", 2 },
	[LEADERS_KILLED] = { "leaders killed", 2 },
	[MEMBERS_KILLED] = { "members killed", 2 },
	[SHEPHERD_STOPPED] = { "shepherd stopped", 2 },
	[SHEPHERD_STOPPED_HOST_KILLED] = { "shepherd stopped, host killed", 2 },
	[FEW_DESCRIPTORS] = { "few descriptors", 2 },
	[FEW_PROCESSES] = { "few processes", 2 },
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void nap(int ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L }, NULL);
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static unsigned below(uint64_t *state, unsigned n)
{
	return (unsigned)(next_random(state) % n);
}

static bool chance(uint64_t *state, unsigned percent)
{
	return below(state, 100) < percent;
}

static char testprog[PATH_MAX];
static char hostile[PATH_MAX];
static char go_host[PATH_MAX];

/* They are beside this program. */
static void find_programs(void)
{
	char self[PATH_MAX - 16];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n < 0)
		abort();
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	snprintf(testprog, sizeof testprog, "%s/testprog", self);
	snprintf(hostile, sizeof hostile, "%s/hostile", self);
	snprintf(go_host, sizeof go_host, "%s/chaos-gohost", self);
}

/* Random trees. */

struct text {
	char data[600];
	size_t len;
};

static __attribute__((format(printf, 2, 3))) void add(struct text *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	t->len += (size_t)vsnprintf(t->data + t->len, sizeof t->data - t->len, format, args);
	va_end(args);
	if (t->len >= sizeof t->data)
		abort();
}

static void add_children(uint64_t *random, struct text *t, int depth);

static void add_child(uint64_t *random, struct text *t, int depth)
{
	static const char *const places[] = { "child", "group", "session", "daemon", "sibling" };
	static const char *const habits[] = { ".scrub",   ".bare",   ".deaf", ".stubborn",
					      ".stopped", ".asleep", ".lost" };
	static const struct {
		const char *format;
		unsigned most;
	} ends[] = { { ".bomb=%u", 60 },   { ".runner=%u", 150 }, { ".zombies=%u", 10 },
		     { ".keeper=%u", 20 }, { ".breed=%u", 5 },    { ".exit=%u", 3 } };
	unsigned wide = chance(random, 10) ? 1 + below(random, 20) : 1;

	if (wide > 1)
		add(t, "%u*", wide);
	add(t, "%s", places[below(random, COUNT_OF(places))]);
	for (size_t i = 0; i < COUNT_OF(habits); i++)
		if (chance(random, i == COUNT_OF(habits) - 1 ? 2 : 12))
			add(t, "%s", habits[i]);
	if (wide == 1 && chance(random, 25)) {
		size_t end = below(random, COUNT_OF(ends));

		add(t, ends[end].format, 1 + below(random, ends[end].most));
	}
	if (wide == 1 && depth > 0 && chance(random, 35))
		add_children(random, t, depth - 1);
}

static void add_children(uint64_t *random, struct text *t, int depth)
{
	unsigned count = 1 + below(random, 3);

	for (unsigned i = 0; i < count; i++) {
		add(t, i ? "," : "(");
		add_child(random, t, depth);
	}
	add(t, ")");
}

static void add_tree(uint64_t *random, struct text *t)
{
	static const char *const leaders[] = { "leader",          "leader",       "leader.deaf",
					       "leader.stubborn", "leader.moved", "leader.breed=5",
					       "exit=7",          "bare",         "scrub",
					       "group.stopped" };

	add(t, "%s", leaders[below(random, COUNT_OF(leaders))]);
	if (chance(random, 90))
		add_children(random, t, 2);
}

/*
 * A host.
 */

#define MAX_PROGRAMS 10

struct program {
	nr_proc p;
	char tag[16];
	bool lingers;
	bool is_lost;  /* or part of it */
	bool may_fail; /* to start */
	bool released;
};

static struct {
	uint64_t random;
	enum fault fault;
	bool talks;
	const char *tag;
	const char *counter;
	unsigned made;
	struct program programs[MAX_PROGRAMS];
	_Atomic size_t count;
	atomic_bool failed;
	atomic_bool over;
} self;

static __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
	char line[400];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	fprintf(stderr, "  host %d (%s): %s\n", getpid(), faults[self.fault].name, line);
	atomic_store(&self.failed, true);
}

/* Which errors a fault explains. */
static bool is_explained(int64_t error)
{
	switch (self.fault) {
	case SHEPHERD_KILLED:
	case GUARDIAN_KILLED:
	case HOST_AND_SHEPHERD_KILLED: /* it may see the shepherd's death */
	case HOST_AND_GUARDIAN_KILLED:
		return error == -EOWNERDEAD;
	case FEW_DESCRIPTORS:
		return error == -EMFILE;
	case FEW_PROCESSES:
		/* The second where a shepherd of its own can't have its threads. */
		return error == -EAGAIN || error == -ENOMEM || error == -ENOPKG;
	default:
		return false;
	}
}

static bool shepherd_may_die(void)
{
	return self.fault == SHEPHERD_KILLED || self.fault == GUARDIAN_KILLED ||
	       self.fault == HOST_AND_SHEPHERD_KILLED || self.fault == HOST_AND_GUARDIAN_KILLED;
}

static size_t count_descriptors(void)
{
	struct fd_list list;
	size_t count;

	if (!proc_fds(0, &list))
		return 0;
	count = list.count;
	proc_fds_free(&list);
	return count;
}

static void print_descriptors(void)
{
	struct fd_list list;

	if (!proc_fds(0, &list))
		return;
	for (size_t i = 0; i < list.count; i++)
		fprintf(stderr, "    %s\n", list.texts[i]);
	proc_fds_free(&list);
}

/* Waits for the end of a program. False: it will never be known. */
static bool wait_end(nr_proc p, const char *what, nr_outcome *how)
{
	int n = nr_wait(p, PATIENCE_MS, how);

	if (n != 0 && !is_explained(n))
		fail("nr_wait for %s is -%s", what, nr_errname(n));
	return n == 0;
}

/* What a copying program is given comes back, all of it and as it was. */
static void run_copy(void)
{
	const char *const argv[] = { testprog, "copy", NULL };
	nr_options o = { .size = sizeof o, .argv = argv, .err = { .mode = NR_STDIO_NULL } };
	size_t len = 1 + below(&self.random, 300000);
	size_t written = 0, got = 0;
	bool is_slow = chance(&self.random, 20);
	bool ended = false;
	static unsigned char in[300000], out[65536];
	nr_outcome how = { .size = sizeof how };
	int64_t until = now_ms() + PATIENCE_MS;
	char why[256];
	nr_proc p;

	if (chance(&self.random, 30))
		o.pipe_size = 4096u << below(&self.random, 6);
	if (chance(&self.random, 30))
		o.flags |= NR_ASYNC;
	pattern_fill(in, 0, len);
	p = nr_spawn(&o, why, sizeof why);
	if (p < 0) {
		if (!is_explained(p))
			fail("nr_spawn of a copy is -%s: %s", nr_errname((int)p), why);
		return;
	}
	while (!ended) {
		size_t chunk = 1 + below(&self.random, sizeof out);
		struct pollfd fds[2];
		ssize_t n;

		if (now_ms() > until) {
			fail("a copy does not go on: %zu of %zu written, %zu read", written, len,
			     got);
			break;
		}
		if (written < len) {
			n = nr_write(p, in + written,
				     len - written < chunk ? len - written : chunk);
			if (n > 0)
				written += (size_t)n;
			else if (n != -EAGAIN)
				break;
			if (written == len)
				nr_close_stdin(p);
		}
		n = nr_read(p, NR_STDOUT, out, chunk);
		for (ssize_t i = 0; i < n; i++)
			if (out[i] != in[got + (size_t)i]) {
				fail("byte %zu of a copy is wrong", got + (size_t)i);
				break;
			}
		if (n > 0)
			got += (size_t)n;
		ended = n == 0;
		if (is_slow && n > 0)
			nap((int)below(&self.random, 3));
		if (n != -EAGAIN)
			continue;
		fds[0] = (struct pollfd){ nr_fd(p, NR_STDOUT), POLLIN, 0 };
		fds[1] = (struct pollfd){ written < len ? nr_fd(p, NR_STDIN) : -1, POLLOUT, 0 };
		poll(fds, 2, 100);
	}
	/* If nothing was killed, and an asynchronous one did not fail to start. */
	if (wait_end(p, "a copy", &how) && !shepherd_may_die() &&
	    (got != len || written != len || how.code != 0))
		fail("%zu bytes of %zu were written, %zu came back, code %d, signal %d", written,
		     len, got, how.code, how.signal);
	nr_release(p);
}

/* A tree must be dead when its end is reported. */
static void check_dead(const struct program *it)
{
	static struct hostile_census c;

	if (it->lingers || it->is_lost || shepherd_may_die())
		return;
	hostile_count(it->tag, &c);
	if (c.alive) {
		fail("%zu are alive after the end of their program", c.alive);
		hostile_print(stderr, &c, 10);
	}
}

static void start_tree(void)
{
	char argv0[] = "hostile";
	struct text tree = { .len = 0 };
	size_t count = atomic_load(&self.count);
	struct program *it = &self.programs[count];
	const char *argv[] = { argv0, "-c", self.counter, it->tag, TREE_LIFE, tree.data, NULL };
	nr_options o = { .size = sizeof o, .argv = argv, .file = hostile };
	nr_rlimit limit = { .resource = RLIMIT_AS };
	uint64_t *random = &self.random;
	static const int64_t graces[] = { NR_KILL_NOW, 20, 100, 300 };
	char why[256];

	add_tree(random, &tree);
	o.kill_timeout_ms = graces[below(random, COUNT_OF(graces))];
	if (chance(random, 10))
		o.flags |= NR_LINGER;
	if (chance(random, 10))
		o.flags |= NR_SESSION;
	if (chance(random, 10))
		o.flags |= NR_PTY;
	if (chance(random, 30))
		o.flags |= NR_ASYNC;
	if (chance(random, 10))
		o.flags |= NR_OWN_SHEPHERD;
	if (chance(random, 10))
		o.flags |= NR_PID_NAMESPACE;
	if (chance(random, 15))
		o.timeout_ms = 1 + below(random, 100);
	if (chance(random, 10))
		o.output_limit = 1 + below(random, 100000);
	if (chance(random, 50))
		o.err.mode = NR_STDIO_PIPE;
	if (chance(random, 10)) {
		limit.soft = limit.hard = (uint64_t)(1 + below(random, 8)) << 20;
		o.rlimits = &limit;
		o.nrlimits = 1;
	}
	if (count == MAX_PROGRAMS)
		return;
	*it = (struct program){ .lingers = o.flags & NR_LINGER,
				.may_fail = o.nrlimits > 0,
				.is_lost = strstr(tree.data, "lost") };
	snprintf(it->tag, sizeof it->tag, "%s%02x", self.tag, self.made++ & 0xff);
	it->p = nr_spawn(&o, why, sizeof why);
	if (it->p == -ENOTSUP && (o.flags & NR_OWN_SHEPHERD)) {
		o.flags &= ~(uint64_t)NR_OWN_SHEPHERD;
		it->p = nr_spawn(&o, why, sizeof why);
	}
	if (it->p < 0 && strstr(why, "for NR_PID_NAMESPACE") && !is_explained(it->p)) {
		/* Not here, or not for this user. */
		o.flags &= ~(uint64_t)NR_PID_NAMESPACE;
		it->p = nr_spawn(&o, why, sizeof why);
	}
	if (self.talks)
		fprintf(stderr, "    %s %s flags %#" PRIx64 "%s\n", it->tag, tree.data, o.flags,
			it->p > 0 ? "" : " failed");
	if (it->p > 0)
		atomic_store(&self.count, count + 1);
	else if (!is_explained(it->p) && !it->may_fail)
		fail("nr_spawn is -%s: %s", nr_errname((int)it->p), why);
}

static void fail_to_start(void)
{
	static const char *const nowhere[] = { "/nonexistent/program", NULL };
	const char *const program[] = { testprog, "exit", "0", NULL };
	nr_options o = { .size = sizeof o, .argv = nowhere };
	char why[256];
	nr_proc p;

	if (chance(&self.random, 50)) {
		o.argv = program;
		o.cwd = "/nonexistent";
	}
	p = nr_spawn(&o, why, sizeof why);
	if (p != -ENOENT && !is_explained(p))
		fail("nr_spawn of nothing is %" PRId64 " (-%s): %s", (int64_t)p, nr_errname((int)p),
		     why);
}

/* Calls that may be made at any time, with any result but a crash or a hang. */
static void do_something(uint64_t *random, nr_proc p)
{
	static const int signals[] = { 0,       SIGTERM, SIGHUP,  SIGINT,  SIGSTOP,
				       SIGCONT, SIGUSR1, SIGUSR2, SIGCHLD, SIGKILL };
	nr_statistics s = { .size = sizeof s };
	nr_outcome how = { .size = sizeof how };
	char buf[4096] = "";

	switch (below(random, 10)) {
	case 0:
		nr_kill(p, signals[below(random, COUNT_OF(signals))]);
		break;
	case 1:
		nr_stop(p);
		break;
	case 2:
		nr_wait(p, 0, &how);
		break;
	case 3:
		nr_wait(p, (int)below(random, 20), &how);
		break;
	case 4:
		nr_stats(p, &s);
		break;
	case 5:
		nr_close(p, (int)below(random, 3));
		break;
	case 6:
		nr_winsize(p, (uint16_t)(1 + below(random, 99)), 80);
		break;
	case 7:
		nr_write(p, buf, 0);
		nr_write(p, "x\n", 2);
		break;
	case 8:
		nr_why(p, buf, sizeof buf);
		nr_pid(p);
		break;
	default:
		nr_read(p, 1 + (int)below(random, 2), buf, sizeof buf);
		break;
	}
}

static nr_proc any_program(uint64_t *random)
{
	size_t count = atomic_load(&self.count);

	return count ? self.programs[below(random, (unsigned)count)].p : 1;
}

static void *meddle(void *arg)
{
	uint64_t random = *(uint64_t *)arg;

	while (!atomic_load(&self.over)) {
		do_something(&random, any_program(&random));
		nap(1);
	}
	return NULL;
}

/* Ends a program in one of the ways that there are. */
static void finish(struct program *it)
{
	nr_outcome how = { .size = sizeof how };
	bool has_ended = false;

	switch (below(&self.random, 4)) {
	case 0:
		nr_stop(it->p);
		break;
	case 1:
		/* Members of other groups, and who lingers, see nothing of it. */
		nr_kill(it->p, SIGKILL);
		if (it->lingers)
			nr_stop(it->p);
		break;
	case 2:
		nr_wait(it->p, (int)below(&self.random, 50), &how);
		nr_stop(it->p);
		break;
	default:
		it->released = true;
		break;
	}
	if (!it->released) {
		int n = nr_wait(it->p, PATIENCE_MS, &how);

		has_ended = n == 0;
		if (n != 0 && !is_explained(n) && !(it->may_fail && n != -ETIMEDOUT))
			fail("nr_wait is -%s", nr_errname(n));
		if (n == 0 && (how.code < 0) == (how.signal < 0))
			fail("code %d, signal %d", how.code, how.signal);
	}
	if (has_ended)
		check_dead(it);
	if (nr_release(it->p) != 0)
		fail("nr_release failed");
}

/* Soon, all of this host's trees are gone, while it lives. */
static void check_gone(void)
{
	static struct hostile_census c;
	int64_t until = now_ms() + PATIENCE_MS;

	while (!hostile_gone(self.tag, &c)) {
		if (now_ms() > until) {
			fail("%zu live and %zu are zombies after the release of all", c.alive,
			     c.zombies);
			hostile_print(stderr, &c, 10);
			return;
		}
		nap(2);
	}
}

/*
 * Brings the library to the state that it is in between programs. A shepherd
 * that has died is noticed, and let go, by a spawn. False: it died just now.
 */
static bool warm_up(void)
{
	const char *const argv[] = { testprog, "exit", "0", NULL };
	nr_options o = { .size = sizeof o, .argv = argv };
	nr_outcome how = { .size = sizeof how };
	bool is_warm = true;
	char why[256];

	for (int i = 0; i < 2; i++) {
		nr_proc p = nr_spawn(&o, why, sizeof why);

		if (p < 0 && !is_explained(p))
			fail("the first nr_spawn is -%s: %s", nr_errname((int)p), why);
		is_warm &= p > 0;
		if (p < 0)
			continue;
		wait_end(p, "the first program", &how);
		is_warm &= nr_wait(p, 0, &how) == 0;
		nr_release(p);
	}
	return is_warm;
}

static void get_warm(void)
{
	for (int i = 0; i < 3 && !warm_up(); i++)
		continue;
}

static int run_host(char **argv)
{
	struct rlimit files;
	uint64_t meddler_random;
	pthread_t meddler;
	bool has_meddler;
	size_t before;
	unsigned steps;
	int64_t until;

	self.random = strtoull(argv[0], NULL, 0);
	self.fault = (enum fault)atoi(argv[1]);
	self.tag = argv[2] + strlen(TAG_PREFIX);
	self.counter = argv[3];
	self.talks = atoi(argv[4]);
	if (access(hostile, X_OK) != 0 || access(testprog, X_OK) != 0)
		return EXIT_SKIP;
	getrlimit(RLIMIT_NOFILE, &files);
	get_warm();
	before = count_descriptors();
	if (self.fault == FEW_DESCRIPTORS)
		setrlimit(RLIMIT_NOFILE,
			  &(struct rlimit){ before + below(&self.random, 20), files.rlim_max });
	steps = 3 + below(&self.random, 15);
	meddler_random = next_random(&self.random);
	has_meddler = chance(&self.random, 30) && self.fault != FEW_PROCESSES &&
		      pthread_create(&meddler, NULL, meddle, &meddler_random) == 0;
	for (unsigned i = 0; i < steps; i++) {
		unsigned what = below(&self.random, 100);

		if (what < 45)
			start_tree();
		else if (what < 60)
			run_copy();
		else if (what < 65)
			fail_to_start();
		else if (what < 70)
			nap((int)below(&self.random, 20));
		else
			do_something(&self.random, any_program(&self.random));
		if (self.fault == HOST_EXITS && below(&self.random, steps) == 0)
			_exit(atomic_load(&self.failed));
	}
	atomic_store(&self.over, true);
	if (has_meddler)
		pthread_join(meddler, NULL);
	for (size_t i = 0; i < atomic_load(&self.count); i++)
		finish(&self.programs[i]);
	setrlimit(RLIMIT_NOFILE, &files);
	if (self.fault == HOST_EXITS)
		_exit(atomic_load(&self.failed)); /* what it released is not gone yet */
	check_gone();
	self.fault = self.fault == FEW_DESCRIPTORS ? NONE : self.fault;
	get_warm();
	until = now_ms() + PATIENCE_MS;
	while (count_descriptors() > before && now_ms() < until)
		nap(2);
	if (count_descriptors() > before) {
		fail("%zu descriptors, %zu before", count_descriptors(), before);
		print_descriptors();
	}
	return atomic_load(&self.failed);
}

/*
 * The harness.
 */

struct host {
	uint64_t seed;
	enum fault fault;
	bool is_go;
	int after_ms; /* the fault, after the start */
	int pause_ms; /* of a shepherd that is stopped */

	char mark[64];
	char tag[16];
	pid_t pid; /* 0: ended */
	int status;
	int64_t started;
	pid_t stopped; /* the shepherd that is to go on */
	int64_t goes_on;
	bool done; /* the fault has been */
};

struct round {
	uint64_t seed;
	unsigned number;
	size_t count;
	struct host hosts[MAX_HOSTS];
};

static struct {
	bool talks;
	bool stops;
	bool is_root;
	char counter[64];
	_Atomic uint64_t *made;
	uint64_t done[FAULTS]; /* faults that have happened */
	uint64_t planned[FAULTS];
	uint64_t hosts;
	uint64_t go_hosts;
	int64_t slowest_ms;
	uint64_t slowest_seed;
	unsigned passed;
	unsigned failed;
	unsigned skipped;
} harness;

static volatile sig_atomic_t is_interrupted;

static void on_interrupt(int sig)
{
	(void)sig;
	is_interrupted = 1;
}

static void plan(struct round *r)
{
	uint64_t random = r->seed;
	unsigned total = 0;

	for (size_t i = 0; i < FAULTS; i++)
		total += faults[i].weight;
	r->count = chance(&random, 25) ? 1 + below(&random, MAX_HOSTS) : 1;
	for (size_t i = 0; i < r->count; i++) {
		struct host *h = &r->hosts[i];
		unsigned pick = below(&random, total);

		h->fault = NONE;
		while (pick >= faults[h->fault].weight)
			pick -= faults[h->fault++].weight;
		h->seed = next_random(&random);
		h->after_ms = (int)below(&random, chance(&random, 80) ? 60 : 400);
		h->pause_ms = (int)below(&random, 100);
		h->is_go = chance(&random, GO_PERCENT);
		snprintf(h->mark, sizeof h->mark, "%s=chaos-%d-%u-%zu.", MARK_NAME, getpid(),
			 r->number, i);
		snprintf(h->tag, sizeof h->tag, "c%05x%03x%x", (unsigned)getpid() & 0xfffff,
			 r->number & 0xfff, (unsigned)i & 0xf);
		harness.planned[h->fault]++;
		harness.hosts++;
		harness.go_hosts += h->is_go;
	}
}

/*
 * A user that has nothing else is under a limit of processes of its own, and
 * what it fills hurts nobody. The threads of host and shepherd count, too.
 */
static void become_another_user(uint64_t seed)
{
	rlim_t most = 90 + seed % 60;
	uid_t uid = 47000 + (uid_t)(seed >> 32) % 1000;

	if (setgid(uid) != 0 || setuid(uid) != 0)
		_exit(EXIT_SKIP);
	setrlimit(RLIMIT_NPROC, &(struct rlimit){ most, most });
}

static void start_host(struct host *h)
{
	char seed[32], fault[16], tag[32];
	char *argv[] = {
		"chaos", "--host", seed, fault, tag, harness.counter, harness.talks ? "1" : "0",
		NULL
	};

	snprintf(seed, sizeof seed, "%#" PRIx64, h->seed);
	snprintf(fault, sizeof fault, "%d", h->fault);
	/* A host must not be taken for what it starts, by its arguments. */
	snprintf(tag, sizeof tag, TAG_PREFIX "%s", h->tag);
	h->started = now_ms();
	fflush(NULL);
	h->pid = fork();
	if (h->pid < 0) {
		perror("fork");
		exit(2);
	}
	if (h->pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv(MARK_NAME, h->mark + strlen(MARK_NAME) + 1, 1);
	if (h->fault == FEW_PROCESSES) {
		if (!harness.is_root)
			_exit(EXIT_SKIP);
		become_another_user(h->seed);
	}
	if (h->is_go) {
		/* The race detector sleeps for a second at the end otherwise. */
		setenv("GORACE", "atexit_sleep_ms=0 halt_on_error=1", 1);
		argv[0] = go_host;
	}
	execv(h->is_go ? go_host : "/proc/self/exe", argv);
	_exit(EXIT_SKIP);
}

/*
 * A shepherd that holds a program of this host, or the guardian above it; 0:
 * there is none (yet). They have no mark themselves.
 */
static pid_t find_shepherd(const struct host *h, bool guardian)
{
	pid_t pids[64];
	size_t count = proc_marked(h->mark, false, pids, COUNT_OF(pids));

	for (size_t i = 0; i < count && i < COUNT_OF(pids); i++) {
		pid_t shepherd = proc_parent(pids[i]);
		pid_t above = shepherd > 0 ? proc_parent(shepherd) : 0;

		if (above > 0 && proc_is_shepherd(shepherd) && proc_is_shepherd(above))
			return guardian ? above : shepherd;
	}
	return 0;
}

static bool kill_pid(pid_t pid)
{
	return pid > 0 && kill(pid, SIGKILL) == 0;
}

/* Some processes of its trees. Leaders are children of a shepherd. */
static bool kill_members(const struct host *h, bool leaders)
{
	static struct hostile_census c;
	uint64_t random = h->seed;
	bool hit = false;

	hostile_count(h->tag, &c);
	for (size_t i = 0; i < c.listed; i++) {
		const struct hostile_member *m = &c.list[i];

		if (leaders ? getpgid(m->pid) == m->pid && proc_is_shepherd(m->parent)
			    : chance(&random, 30))
			hit |= kill_pid(m->pid);
	}
	return hit;
}

/* False: what is to be hit is not there yet. */
static bool strike(struct host *h)
{
	pid_t pid;

	switch (h->fault) {
	case HOST_KILLED:
		return kill_pid(h->pid);
	case SHEPHERD_KILLED:
		return kill_pid(find_shepherd(h, false));
	case GUARDIAN_KILLED:
		return kill_pid(find_shepherd(h, true));
	case HOST_AND_SHEPHERD_KILLED:
	case HOST_AND_GUARDIAN_KILLED:
		pid = find_shepherd(h, h->fault == HOST_AND_GUARDIAN_KILLED);
		if (!pid)
			return false;
		if (h->seed & 1)
			return kill_pid(pid) | kill_pid(h->pid);
		return kill_pid(h->pid) | kill_pid(pid);
	case LEADERS_KILLED:
		return kill_members(h, true);
	case MEMBERS_KILLED:
		return kill_members(h, false);
	case SHEPHERD_STOPPED:
	case SHEPHERD_STOPPED_HOST_KILLED:
		pid = find_shepherd(h, false);
		if (!pid || kill(pid, SIGSTOP) != 0)
			return false;
		h->stopped = pid;
		h->goes_on = now_ms() + h->pause_ms;
		if (h->fault == SHEPHERD_STOPPED_HOST_KILLED)
			kill_pid(h->pid);
		return true;
	default:
		return true; /* the host does it */
	}
}

/*
 * Reaps hosts, and what else has become our child: guardians, which are nobody
 * else's, and what has escaped. False: there is no child any more.
 */
static bool reap(struct round *r)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		for (size_t i = 0; i < r->count; i++)
			if (r->hosts[i].pid == pid) {
				r->hosts[i].pid = 0;
				r->hosts[i].status = status;
			}
	return pid == 0;
}

static bool advance(struct host *h)
{
	int64_t now = now_ms();

	if (h->stopped && now >= h->goes_on) {
		kill(h->stopped, SIGCONT);
		h->stopped = 0;
	}
	if (h->pid && !h->done && now >= h->started + h->after_ms) {
		h->done = strike(h);
		harness.done[h->fault] += h->done;
	}
	return h->pid || h->stopped;
}

/* Whether a host ended as it should have. */
static bool check_status(const struct host *h, bool *skipped)
{
	bool may_be_killed = h->fault == HOST_KILLED || h->fault == HOST_AND_SHEPHERD_KILLED ||
			     h->fault == HOST_AND_GUARDIAN_KILLED ||
			     h->fault == SHEPHERD_STOPPED_HOST_KILLED;

	if (WIFEXITED(h->status) && WEXITSTATUS(h->status) == EXIT_SKIP) {
		*skipped = true;
		return true;
	}
	if (h->status == 0 || (may_be_killed && h->status == SIGKILL))
		return true;
	fprintf(stderr, "  host (%s): wait status %#x\n", faults[h->fault].name,
		(unsigned)h->status);
	return false;
}

/*
 * Whether nothing is left of a round. Trees are found by their tags, other
 * programs by their mark, and guardians are our children.
 */
static bool is_gone(struct round *r, struct hostile_census *c, pid_t *marked)
{
	*marked = 0;
	for (size_t i = 0; i < r->count; i++) {
		if (!hostile_gone(r->hosts[i].tag, c))
			return false;
		if (proc_marked(r->hosts[i].mark, true, marked, 1) > 0)
			return false;
	}
	return !reap(r);
}

/* The children of this process, as one text. */
static void read_children(char *buf, size_t len)
{
	char name[64];

	snprintf(name, sizeof name, "task/%d/children", getpid());
	hostile_read(getpid(), name, buf, len);
}

static bool check_gone_all(struct round *r)
{
	static struct hostile_census c;
	int64_t start = now_ms();
	pid_t marked;
	char text[256];

	while (!is_gone(r, &c, &marked)) {
		reap(r); /* what has escaped, or it would stay a zombie of ours */
		if (now_ms() - start < PATIENCE_MS) {
			nap(1);
			continue;
		}
		read_children(text, sizeof text);
		fprintf(stderr, "  left: %zu alive, %zu zombies; children of ours: %s\n", c.alive,
			c.zombies, text);
		hostile_print(stderr, &c, 30);
		if (marked) {
			proc_describe(marked, text, sizeof text);
			fprintf(stderr, "  %s\n", text);
		}
		return false;
	}
	if (now_ms() - start > harness.slowest_ms) {
		harness.slowest_ms = now_ms() - start;
		harness.slowest_seed = r->seed;
	}
	return true;
}

/* By number, each looked at just before. */
static void kill_left(struct round *r)
{
	char text[1024];
	pid_t pids[256];
	pid_t pid;

	for (size_t i = 0; i < r->count; i++) {
		const struct host *h = &r->hosts[i];
		size_t count = proc_marked(h->mark, true, pids, COUNT_OF(pids));

		if (h->stopped)
			kill(h->stopped, SIGCONT);
		kill_pid(h->pid);
		for (size_t k = 0; k < count && k < COUNT_OF(pids); k++)
			if (proc_has_mark(pids[k], h->mark))
				kill_pid(pids[k]);
		hostile_kill(h->tag);
	}
	/* Our children are what we have started, and what that has. */
	read_children(text, sizeof text);
	for (char *at = text; (pid = (pid_t)strtol(at, &at, 10)) > 0;)
		kill_pid(pid);
}

/* What the threads of a host that hangs wait for in the kernel. */
static void print_hang(const struct host *h)
{
	char path[64], call[128];
	struct dirent *entry;
	DIR *dir;

	fprintf(stderr, "  host %d (%s) hangs\n", h->pid, faults[h->fault].name);
	snprintf(path, sizeof path, "/proc/%d/task", h->pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		char name[64];

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(name, sizeof name, "task/%.20s/syscall", entry->d_name);
		hostile_read(h->pid, name, call, sizeof call);
		fprintf(stderr, "    thread %.20s: system call %s%s", entry->d_name, call,
			*call ? "" : "?\n");
	}
	if (dir)
		closedir(dir);
	if (h->is_go) {
		/* It prints the stacks of its goroutines, too. */
		kill(h->pid, SIGQUIT);
		nap(500);
	}
}

static void run_round(struct round *r)
{
	int64_t until = now_ms() + HOST_PATIENCE_MS;
	bool passed = true, skipped = false, running = true;

	plan(r);
	for (size_t i = 0; i < r->count; i++) {
		if (harness.talks)
			fprintf(stderr, "round %u, seed %#" PRIx64 ": %s%s after %d ms\n",
				r->number, r->seed, r->hosts[i].is_go ? "Go host, " : "",
				faults[r->hosts[i].fault].name, r->hosts[i].after_ms);
		start_host(&r->hosts[i]);
	}
	while (running) {
		running = false;
		for (size_t i = 0; i < r->count; i++)
			running |= advance(&r->hosts[i]);
		reap(r);
		if (running && now_ms() > until) {
			for (size_t i = 0; i < r->count; i++)
				if (r->hosts[i].pid)
					print_hang(&r->hosts[i]);
			passed = false;
			break;
		}
		nap(1);
	}
	for (size_t i = 0; i < r->count; i++)
		if (!r->hosts[i].pid)
			passed &= check_status(&r->hosts[i], &skipped);
	if (running || !check_gone_all(r)) {
		passed = false;
		kill_left(r);
		nap(50);
		reap(r);
	}
	if (!passed) {
		printf("FAIL round %u: seed %#" PRIx64, r->number, r->seed);
		for (size_t i = 0; i < r->count; i++)
			printf("%s %s%s", i ? "," : ":", faults[r->hosts[i].fault].name,
			       r->hosts[i].is_go ? " (Go host)" : "");
		printf("\n");
		harness.failed++;
	} else if (skipped) {
		harness.skipped++;
	} else {
		harness.passed++;
	}
}

static void make_counter(void)
{
	int fd;
	void *map;

	strcpy(harness.counter, "/tmp/nr-chaos-XXXXXX");
	fd = mkstemp(harness.counter);
	/* Also for the hosts of other users. */
	if (fd < 0 || ftruncate(fd, sizeof(uint64_t)) != 0 || fchmod(fd, 0666) != 0) {
		perror(harness.counter);
		exit(2);
	}
	map = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	harness.made = map;
}

static void print_figures(unsigned rounds)
{
	printf("%u rounds, %" PRIu64 " hosts (%" PRIu64 " in Go), %" PRIu64
	       " processes made, slowest teardown %" PRId64 " ms (seed %#" PRIx64 ")\n",
	       rounds, harness.hosts, harness.go_hosts, (uint64_t)atomic_load(harness.made),
	       harness.slowest_ms, harness.slowest_seed);
	for (size_t i = 0; i < FAULTS; i++)
		printf("  %-30s %" PRIu64 " planned, %" PRIu64 " happened\n", faults[i].name,
		       harness.planned[i], harness.done[i]);
}

static uint64_t new_seed(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + (uint64_t)getpid() * 7919;
}

int main(int argc, char **argv)
{
	unsigned rounds = 100, done = 0;
	uint64_t seed = new_seed();
	int option;

	find_programs();
	if (argc == 7 && strcmp(argv[1], "--host") == 0)
		return run_host(argv + 2);
	while ((option = getopt(argc, argv, "n:s:vx")) != -1) {
		switch (option) {
		case 'n':
			rounds = (unsigned)atoi(optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'v':
			harness.talks = true;
			break;
		case 'x':
			harness.stops = true;
			break;
		default:
			fprintf(stderr, "usage: %s [-n ROUNDS] [-s SEED] [-v] [-x]\n", argv[0]);
			return 2;
		}
	}
	if (access(go_host, X_OK) != 0) {
		fprintf(stderr, "%s: %s; \"make tests\" builds it\n", go_host, strerror(errno));
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %#" PRIx64 "\n", seed);
	sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_interrupt }, NULL);
	sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_interrupt }, NULL);
	/* What escapes comes to us, and dead shepherds of dead hosts do, too. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	harness.is_root = geteuid() == 0;
	make_counter();
	while (done < rounds && !is_interrupted && !(harness.stops && harness.failed)) {
		struct round r = { .seed = seed + done, .number = done };

		run_round(&r);
		if (++done % 100 == 0)
			printf("%u rounds: %u passed, %u failed, %u skipped\n", done,
			       harness.passed, harness.failed, harness.skipped);
	}
	unlink(harness.counter);
	print_figures(done);
	printf("%u passed, %u failed, %u skipped\n", harness.passed, harness.failed,
	       harness.skipped);
	return harness.failed || done == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Nothing survives: trees that defend themselves, and all the ways in which a
 * program, its host and its shepherd end.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helpers/hostile.h"
#include "support.h"

/* Enough for a tree to see the SIGTERM and react to it. */
#define GRACE_MS 150

struct shape {
	const char *name;
	const char *tree; /* see helpers/hostile.c */
	size_t members;   /* that settle and then stay */
};

static const struct shape shapes[] = {
	{ "plain", "leader(2*child)", 3 },
	{ "other groups", "leader(2*group)", 3 },
	{ "leader in another group", "leader.moved(child)", 3 },
	{ "other sessions", "leader(2*session)", 3 },
	{ "daemons", "leader(2*daemon)", 3 },
	{ "deep", "leader(child(session(child(daemon(group(daemon))))))", 7 },
	{ "scrubbed environment", "leader(scrub.session,scrub.daemon,daemon.scrub)", 4 },
	{ "no descriptors", "leader(bare.daemon,bare.scrub.session)", 3 },
	{ "stopped", "leader(stopped,session.stopped,daemon.stopped(child))", 5 },
	{ "deaf", "leader.deaf(deaf,session.deaf,daemon.deaf)", 4 },
	{ "leader obeys, member ignores", "leader(stubborn,session.stubborn)", 3 },
	{ "CLONE_PARENT",
	  "leader(sibling,sibling.session,child(sibling.session),child(child(sibling.daemon)))",
	  8 },
	{ "wide", "leader(200*session)", 201 },
	{ "bomb", "leader(session.bomb=400)", 401 },
	{ "running", "leader(4*session.runner=700)", 1 },
	{ "running when killed", "leader(4*session.asleep.runner=700)", 5 },
	{ "zombies", "leader(zombies=20,session.zombies=20,daemon.zombies=20)", 4 },
	{ "replaced when killed", "leader(4*session.keeper=200)", 9 },
	{ "breeding when killed", "leader.breed=20(4*session.breed=20)", 5 },
	{ "all at once",
	  "leader.deaf.breed=5(scrub.bare.deaf.daemon.stopped,"
	  "child(sibling.session.asleep.runner=300,daemon.keeper=50),session.zombies=5)",
	  7 },
};

/* Its members are not known by their mark, but that is all. */
static const struct shape lost = { "lost", "leader(lost.daemon,session.lost,lost.session(daemon))",
				   5 };

static const char *hostile(void)
{
	const char *prog = testprog();

	return check_format("%.*shostile", (int)(strrchr(prog, '/') + 1 - prog), prog);
}

static unsigned tags_made;

static struct hostile_tag new_tag(void)
{
	return hostile_new_tag(getpid(), tags_made++);
}

/* A tree that runs. */
struct tree {
	const struct shape *shape;
	struct hostile_tag tag;
	int64_t expires; /* when it would end by itself: then it is too late to tell */
	nr_proc p;
};

static void kill_left(void *arg)
{
	struct tree *t = arg;

	if (check_has_failed())
		hostile_kill(t->tag.text);
}

static struct hostile_census *count(const char *tag)
{
	static struct hostile_census c;

	hostile_count(tag, &c);
	return &c;
}

static struct tree *new_tree(const struct shape *shape)
{
	struct tree *t = check_alloc(sizeof *t);

	t->shape = shape;
	t->tag = new_tag();
	t->expires = check_now_ms() + HOSTILE_LIFE_SECONDS * 1000;
	check_defer(kill_left, t);
	return t;
}

static const char *const *tree_argv(const struct shape *shape, const char *tag)
{
	const char **argv = check_alloc(5 * sizeof *argv);

	argv[0] = hostile();
	argv[1] = tag;
	argv[2] = check_format("%d", HOSTILE_LIFE_SECONDS);
	argv[3] = shape->tree;
	return argv;
}

static void wait_settled(const struct shape *shape, const char *tag)
{
	EVENTUALLY(count(tag)->settled >= shape->members);
	if (check_has_failed()) {
		fprintf(stderr, "%s: %zu of %zu have settled\n", shape->name, count(tag)->settled,
			shape->members);
		REQUIRE(!check_has_failed());
	}
}

/* For all trees of a test. */
static uint64_t tree_flags;

/* Starts a tree, but for what o says by itself. It may not have settled yet. */
static struct tree *begin_tree(const struct shape *shape, nr_options *o)
{
	struct tree *t = new_tree(shape);

	o->flags |= tree_flags;
	o->argv = tree_argv(shape, t->tag.text);
	t->p = spawn(o);
	return t;
}

static struct tree *start_tree(const struct shape *shape, nr_options *o)
{
	struct tree *t = begin_tree(shape, o);

	wait_settled(shape, t->tag.text);
	return t;
}

/* At this very moment. */
static void check_dead(const struct tree *t, const char *when)
{
	const struct hostile_census *c = count(t->tag.text);

	if (!CHECK(c->alive == 0, "%s, %s: %zu live", t->shape->name, when, c->alive))
		hostile_print(stderr, c, 10);
	CHECK(check_now_ms() < t->expires, "%s: too late to tell", t->shape->name);
}

/* Soon, and reaped. */
static void check_gone(const struct tree *t, const char *when)
{
	static struct hostile_census c;

	EVENTUALLY(hostile_gone(t->tag.text, &c));
	if (c.listed) {
		fprintf(stderr, "%s, %s: left\n", t->shape->name, when);
		hostile_print(stderr, &c, 10);
	}
	CHECK(check_now_ms() < t->expires, "%s: too late to tell", t->shape->name);
}

/* Once more, all that this process has made: a scan may miss who runs. */
static void check_all_gone(void)
{
	static struct hostile_census c;
	char prefix[8];

	snprintf(prefix, sizeof prefix, "%.7s", new_tag().text);
	EVENTUALLY(hostile_gone(prefix, &c));
	hostile_print(stderr, &c, 10);
}

/* Programs of the same shepherd that have nothing to do with it. */

#define SIBLINGS 20
#define FAMILY (SIBLINGS + SIBLINGS / 2 * 2)

struct siblings {
	struct hostile_tag tag;
	nr_proc p[SIBLINGS];
	pid_t pids[FAMILY];
};

static int compare_pids(const void *a, const void *b)
{
	return *(const pid_t *)a - *(const pid_t *)b;
}

static void list_siblings(const struct siblings *s, pid_t pids[FAMILY])
{
	const struct hostile_census *c = count(s->tag.text);

	memset(pids, 0, FAMILY * sizeof *pids);
	for (size_t i = 0; i < c->listed && i < FAMILY; i++)
		pids[i] = c->list[i].pid;
	qsort(pids, FAMILY, sizeof *pids, compare_pids);
}

/* All are where they stay, and who helped to get there is gone. */
static bool is_complete(const struct siblings *s)
{
	const struct hostile_census *c = count(s->tag.text);

	return c->settled == FAMILY && c->listed == FAMILY;
}

static struct siblings *start_siblings(void)
{
	/* Half of them have orphans in the shepherd's care, too. */
	static const struct shape kinds[] = {
		{ "idle", "leader", 1 }, { "idle with daemons", "leader(daemon,session)", 3 }
	};
	struct siblings *s = check_alloc(sizeof *s);

	s->tag = new_tag();
	for (size_t i = 0; i < SIBLINGS; i++)
		s->p[i] = spawn(OPTIONS(.argv = tree_argv(&kinds[i % 2], s->tag.text),
					.kill_timeout_ms = NR_KILL_NOW));
	EVENTUALLY(is_complete(s));
	list_siblings(s, s->pids);
	return s;
}

static void check_siblings(const struct siblings *s, const char *after)
{
	pid_t now[FAMILY];

	list_siblings(s, now);
	CHECK(memcmp(now, s->pids, sizeof now) == 0, "siblings were hit, %s", after);
	CHECK_EQ_INT(count(s->tag.text)->alive, FAMILY, "%s", after);
	for (size_t i = 0; i < SIBLINGS; i++)
		CHECK_EQ_INT(nr_kill(s->p[i], 0), 0, "%s", after);
}

static void end_siblings(const struct siblings *s)
{
	for (size_t i = 0; i < SIBLINGS; i++)
		release(s->p[i]);
	EVENTUALLY(hostile_gone(s->tag.text, &(struct hostile_census){ 0 }));
}

/* Siblings of a test live for less than the life of a process. */
static void with_siblings(void (*test)(const struct shape *shape))
{
	for (size_t i = 0; i < COUNT_OF(shapes);) {
		int64_t until = check_now_ms() + HOSTILE_LIFE_SECONDS * 1000 / 3;
		struct siblings *s = start_siblings();

		for (; i < COUNT_OF(shapes) && check_nap(until); i++) {
			test(&shapes[i]);
			check_siblings(s, shapes[i].name);
			REQUIRE(!check_has_failed());
		}
		end_siblings(s);
	}
	check_all_gone();
}

/* The ways in which a program ends. */

static void check_end(const struct tree *t, nr_outcome how, const char *way)
{
	check_dead(t, way);
	if (how.code >= 0)
		CHECK_EQ_INT(how.signal, -1, "%s", t->shape->name);
	check_gone(t, way);
	release(t->p);
}

static void tell_leader(const struct tree *t, int sig)
{
	/* It has not been waited for, so this is its number. */
	REQUIRE(kill(nr_pid(t->p), sig) == 0);
}

static void end_by_itself(const struct shape *shape)
{
	struct tree *t = start_tree(shape, OPTIONS());
	nr_outcome how;

	tell_leader(t, HOSTILE_EXIT);
	how = wait_end(t->p);
	check_code(&how, HOSTILE_EXIT_CODE, NR_REASON_OWN);
	check_end(t, how, "it ended by itself");
}

TEST(program_that_ends_takes_its_tree_along)
{
	with_siblings(end_by_itself);
}

/* The leader exits while its members are still being made. */
static void end_at_once(const struct shape *shape)
{
	struct shape hasty = *shape;
	struct tree *t;
	nr_outcome how;

	hasty.tree = check_format("exit=7%s", shape->tree + strcspn(shape->tree, "("));
	t = begin_tree(&hasty, OPTIONS());
	how = wait_end(t->p);
	check_code(&how, 7, NR_REASON_OWN);
	check_end(t, how, "it ended at once");
}

TEST(program_that_ends_at_once_takes_its_tree_along)
{
	for (int i = 0; i < 3; i++)
		with_siblings(end_at_once);
}

static void end_by_kill(const struct shape *shape)
{
	struct tree *t = start_tree(shape, OPTIONS());
	nr_outcome how;

	CHECK_EQ_INT(nr_kill(t->p, SIGKILL), 0, "%s", shape->name);
	how = wait_end(t->p);
	check_signal(&how, SIGKILL, NR_REASON_KILLED);
	check_end(t, how, "it was killed");
}

TEST(killed_program_takes_its_tree_along)
{
	with_siblings(end_by_kill);
}

/* The leader alone, by somebody else. */
static void end_by_murder(const struct shape *shape)
{
	struct tree *t = start_tree(shape, OPTIONS());
	nr_outcome how;

	tell_leader(t, SIGKILL);
	how = wait_end(t->p);
	check_signal(&how, SIGKILL, NR_REASON_OWN);
	check_end(t, how, "its leader was killed");
}

TEST(program_killed_by_others_takes_its_tree_along)
{
	with_siblings(end_by_murder);
}

static void end_by_stop(const struct shape *shape)
{
	struct tree *t = start_tree(shape, OPTIONS(.kill_timeout_ms = GRACE_MS));
	nr_outcome how;

	CHECK_EQ_INT(nr_stop(t->p), 0);
	how = wait_end(t->p);
	CHECK_EQ_INT(how.reason, NR_REASON_KILLED, "%s", shape->name);
	check_end(t, how, "it was stopped");
}

TEST(stopped_program_takes_its_tree_along)
{
	with_siblings(end_by_stop);
}

static void end_without_grace(const struct shape *shape)
{
	struct tree *t = start_tree(shape, OPTIONS(.kill_timeout_ms = NR_KILL_NOW));
	nr_outcome how;

	CHECK_EQ_INT(nr_stop(t->p), 0);
	how = wait_end(t->p);
	check_signal(&how, SIGKILL, NR_REASON_KILLED);
	check_end(t, how, "it was stopped without grace");
}

TEST(program_stopped_without_grace_takes_its_tree_along)
{
	with_siblings(end_without_grace);
}

static void end_by_timeout(const struct shape *shape)
{
	/* It may not have settled by then. */
	struct tree *t = begin_tree(shape, OPTIONS(.timeout_ms = 200, .kill_timeout_ms = GRACE_MS));
	nr_outcome how = wait_end(t->p);

	CHECK_EQ_INT(how.reason, NR_REASON_TIMEOUT, "%s", shape->name);
	check_end(t, how, "its time was up");
}

TEST(program_whose_time_is_up_takes_its_tree_along)
{
	with_siblings(end_by_timeout);
}

static void end_by_output(const struct shape *shape)
{
	struct tree *t = start_tree(shape, OPTIONS(.output_limit = 10000));
	struct buffer out = { 0 };
	nr_outcome how;

	tell_leader(t, HOSTILE_WRITE);
	CHECK_EQ_INT(read_to_end(t->p, NR_STDOUT, &out), -EFBIG, "%s", shape->name);
	CHECK_EQ_INT(out.len, 10000, "%s", shape->name);
	how = wait_end(t->p);
	CHECK_EQ_INT(how.reason, NR_REASON_OUTPUT, "%s", shape->name);
	check_end(t, how, "it wrote too much");
}

TEST(program_that_writes_too_much_takes_its_tree_along)
{
	with_siblings(end_by_output);
}

static void end_by_release(const struct shape *shape)
{
	struct tree *t = start_tree(shape, OPTIONS(.kill_timeout_ms = GRACE_MS));

	release(t->p);
	check_gone(t, "it was released");
}

TEST(released_program_takes_its_tree_along)
{
	with_siblings(end_by_release);
}

/* All shapes are torn down at the same time, so each is next to storms. */
TEST(trees_of_all_shapes_end_side_by_side)
{
	struct siblings *s = start_siblings();
	struct tree *trees[COUNT_OF(shapes)];

	for (size_t i = 0; i < COUNT_OF(shapes); i++)
		trees[i] = begin_tree(&shapes[i], OPTIONS(.kill_timeout_ms = GRACE_MS));
	for (size_t i = 0; i < COUNT_OF(shapes); i++)
		wait_settled(&shapes[i], trees[i]->tag.text);
	for (size_t i = 0; i < COUNT_OF(shapes); i++)
		CHECK_EQ_INT(i % 2 ? nr_stop(trees[i]->p) : nr_kill(trees[i]->p, SIGKILL), 0);
	for (size_t i = 0; i < COUNT_OF(shapes); i++)
		check_end(trees[i], wait_end(trees[i]->p), "side by side");
	check_siblings(s, "side by side");
	end_siblings(s);
	check_all_gone();
}

/* Its members outlive the leader, but neither the handle nor the host. */

static const struct shape lingering = { "lingering",
					"exit=7(session,daemon,scrub.bare.daemon(child))", 4 };

static struct tree *start_lingering(void)
{
	struct tree *t =
		start_tree(&lingering, OPTIONS(.flags = NR_LINGER, .kill_timeout_ms = GRACE_MS));
	nr_outcome how = wait_end(t->p);

	check_code(&how, 7, NR_REASON_OWN);
	return t;
}

TEST(what_lingers_lives_until_release)
{
	struct siblings *s = start_siblings();

	for (int i = 0; i < 5; i++) {
		struct tree *t = start_lingering();

		/* The shepherd has work to do meanwhile, which is not this. */
		end_by_itself(&shapes[i]);
		CHECK_EQ_INT(count(t->tag.text)->settled, lingering.members);
		release(t->p);
		check_gone(t, "it was released");
		check_siblings(s, "what lingered was released");
	}
	end_siblings(s);
	check_all_gone();
}

/* To be stopped is for the whole tree, what would have lingered included. */
static void end_lingering(const struct shape *shape)
{
	struct tree *t =
		start_tree(shape, OPTIONS(.flags = NR_LINGER, .kill_timeout_ms = GRACE_MS));

	CHECK_EQ_INT(nr_stop(t->p), 0);
	wait_end(t->p);
	check_gone(t, "it was stopped");
	release(t->p);
}

TEST(stopped_program_takes_along_what_would_have_lingered)
{
	with_siblings(end_lingering);
}

/* The shepherd, or the guardian above it, is killed; the host lives. */

/* The guardian is the shepherd's parent. */
static pid_t guardian_of(pid_t shepherd)
{
	char name[32];
	pid_t pid = proc_parent(shepherd);

	hostile_read(pid, "comm", name, sizeof name);
	REQUIRE_STR(name, "netrunner-guard\n");
	REQUIRE(proc_is_shepherd(pid) && proc_is_shepherd(shepherd));
	return pid;
}

static void check_killed(const struct shape *shape, bool guardian)
{
	static const struct shape neighbour = { "neighbour", "leader(session)", 2 };
	struct tree *trees[] = { start_tree(shape, OPTIONS(.kill_timeout_ms = GRACE_MS)),
				 start_tree(&neighbour, OPTIONS()), start_lingering() };
	pid_t pid = shepherd_of(trees[1]->p);

	REQUIRE(kill(guardian ? guardian_of(pid) : pid, SIGKILL) == 0);
	for (size_t i = 0; i < 2; i++) {
		nr_outcome how = { .size = sizeof how };
		int n = nr_wait(trees[i]->p, (int)check_patience_ms(), &how);

		CHECK_EQ_INT(n, -EOWNERDEAD, "%s", trees[i]->shape->name);
	}
	/* Its end is known already. */
	CHECK_EQ_INT(nr_wait(trees[2]->p, 0, NULL), 0);
	for (size_t i = 0; i < COUNT_OF(trees); i++) {
		check_gone(trees[i], guardian ? "the guardian died" : "the shepherd died");
		release(trees[i]->p);
	}
	/* And life goes on. */
	end_by_itself(&neighbour);
	REQUIRE(!check_has_failed());
}

TEST(killed_shepherd_takes_all_trees_along)
{
	for (size_t i = 0; i < COUNT_OF(shapes); i++)
		check_killed(&shapes[i], false);
	check_killed(&lost, false);
	check_all_gone();
}

TEST(killed_guardian_takes_all_trees_along)
{
	for (size_t i = 0; i < COUNT_OF(shapes); i++)
		check_killed(&shapes[i], true);
	check_killed(&lost, true);
	check_all_gone();
}

/* The host dies. */

/* argv: tree_flags; a tag for each tree, the tree. */
HOST(with_trees)
{
	nr_proc p = 0;

	for (int i = 2; i + 1 < argc; i += 2) {
		struct shape shape = { .tree = argv[i + 1] };
		uint64_t flags = strncmp(shape.tree, "exit", 4) == 0 ? NR_LINGER : 0;

		p = spawn(OPTIONS(.argv = tree_argv(&shape, argv[i]),
				  .flags = flags | strtoull(argv[1], NULL, 10),
				  .kill_timeout_ms = 1000));
	}
	tell("%d", nr_pid(p));
	wait_for_test();
	_exit(3);
}

enum victim { HOST_ = 1, SHEPHERD = 2, GUARDIAN = 4, FIRST_HOST = 8, BY_ITSELF = 16 };

static void strike(struct host *h, pid_t shepherd, pid_t guardian, int whom)
{
	/* First nobody can react, then all are hit. */
	if (whom & SHEPHERD)
		kill(shepherd, SIGSTOP);
	if (whom & GUARDIAN)
		kill(guardian, SIGSTOP);
	if (whom & FIRST_HOST)
		kill(h->pid, SIGKILL);
	if (whom & SHEPHERD)
		REQUIRE(kill(shepherd, SIGKILL) == 0);
	if (whom & GUARDIAN)
		REQUIRE(kill(guardian, SIGKILL) == 0);
	if (whom & HOST_)
		host_kill(h);
	if (whom & BY_ITSELF)
		CHECK_EQ_INT(host_end(h), 3 << 8);
}

static const char *flags_text(void)
{
	return check_format("%llu", (unsigned long long)tree_flags);
}

static void check_host_death(const struct shape *shape, int whom, const char *when)
{
	static const struct shape neighbour = { "neighbour", "leader(daemon)", 2 };
	struct tree *trees[] = { new_tree(shape), new_tree(&lingering), new_tree(&neighbour) };
	struct host *h = host_start(ARGV("with_trees", flags_text(), trees[0]->tag.text,
					 shape->tree, trees[1]->tag.text, lingering.tree,
					 trees[2]->tag.text, neighbour.tree));
	pid_t leader = atoi(host_line(h));
	pid_t shepherd, guardian;

	REQUIRE(leader > 0);
	for (size_t i = 0; i < COUNT_OF(trees); i++)
		wait_settled(trees[i]->shape, trees[i]->tag.text);
	shepherd = proc_parent(leader);
	guardian = guardian_of(shepherd);
	strike(h, shepherd, guardian, whom);
	for (size_t i = 0; i < COUNT_OF(trees); i++) {
		/* With both gone it is up to pid 1 to reap, which takes its time. */
		if ((whom & SHEPHERD) && (whom & GUARDIAN))
			EVENTUALLY(count(trees[i]->tag.text)->alive == 0);
		else
			check_gone(trees[i], when);
	}
	/* Not even they. */
	EVENTUALLY(!proc_is_shepherd(shepherd) && !proc_is_shepherd(guardian));
	REQUIRE(!check_has_failed(), "%s", when);
}

static void check_host_deaths(int whom, const char *when)
{
	for (size_t i = 0; i < COUNT_OF(shapes); i++)
		check_host_death(&shapes[i], whom, when);
	check_host_death(&lost, whom, when);
}

TEST(killed_host_takes_its_trees_along)
{
	check_host_deaths(HOST_, "the host was killed");
	check_all_gone();
}

TEST(host_that_exits_takes_its_trees_along)
{
	check_host_deaths(BY_ITSELF, "the host has exited");
	check_all_gone();
}

TEST(host_and_shepherd_killed_at_once)
{
	check_host_deaths(FIRST_HOST | HOST_ | SHEPHERD, "host and shepherd were killed");
	check_all_gone();
}

TEST(shepherd_and_host_killed_at_once)
{
	check_host_deaths(SHEPHERD | HOST_, "shepherd and host were killed");
	check_all_gone();
}

TEST(host_and_guardian_killed_at_once)
{
	check_host_deaths(FIRST_HOST | HOST_ | GUARDIAN, "host and guardian were killed");
	check_all_gone();
}

/* What peers leave alive, by how often. */
TEST(killed_host_leaves_nothing_a_hundred_times)
{
	static const struct shape matrix[] = {
		{ "plain", "leader", 1 },
		{ "TERM-ignorer", "leader.deaf", 1 },
		{ "background job", "leader(child)", 2 },
		{ "setsid", "leader(session)", 2 },
		{ "leader obeys, member ignores", "leader(stubborn)", 2 },
		{ "leader has exited", "exit=7(child,session)", 2 },
	};

	for (int round = 0; round < 100; round++) {
		struct tree *t[COUNT_OF(matrix)];
		struct host *h;

		for (size_t i = 0; i < COUNT_OF(matrix); i++)
			t[i] = new_tree(&matrix[i]);
#define TREE(i) t[i]->tag.text, matrix[i].tree
		h = host_start(ARGV("with_trees", "0", TREE(0), TREE(1), TREE(2), TREE(3), TREE(4),
				    TREE(5)));
#undef TREE
		for (size_t i = 0; i < COUNT_OF(matrix); i++)
			wait_settled(&matrix[i], t[i]->tag.text);
		host_kill(h);
		for (size_t i = 0; i < COUNT_OF(matrix); i++)
			check_gone(t[i], "the host was killed");
		REQUIRE(!check_has_failed(), "round %d", round);
	}
	check_all_gone();
}

/* A host with trees of all shapes. */
TEST(killed_host_takes_many_trees_along)
{
	for (int round = 0; round < 2; round++) {
		struct tree *trees[COUNT_OF(shapes)];
		struct host *hosts[COUNT_OF(shapes) / 5];

		/* Five each, as the arguments of a host are few. */
		for (size_t i = 0; i < COUNT_OF(shapes); i += 5) {
			for (size_t k = i; k < i + 5; k++)
				trees[k] = new_tree(&shapes[k]);
#define TREE(k) trees[k]->tag.text, shapes[k].tree
			hosts[i / 5] = host_start(ARGV("with_trees", "0", TREE(i), TREE(i + 1),
						       TREE(i + 2), TREE(i + 3), TREE(i + 4)));
#undef TREE
		}
		for (size_t i = 0; i < COUNT_OF(shapes); i++)
			wait_settled(&shapes[i], trees[i]->tag.text);
		for (size_t i = 0; i < COUNT_OF(hosts); i++)
			host_kill(hosts[i]);
		for (size_t i = 0; i < COUNT_OF(shapes); i++)
			check_gone(trees[i], "all hosts were killed");
	}
	check_all_gone();
}

_Static_assert(COUNT_OF(shapes) % 5 == 0, "hosts have five trees each");

/*
 * What has lost its mark. Nobody knows whose it is, so it is dead with its
 * program only if that was the only one of its shepherd, or had its own. Else
 * it is dead with the last of them.
 */

static void lose(void (*end)(struct tree *t), uint64_t flags)
{
	struct tree *t = start_tree(&lost, OPTIONS(.flags = flags, .kill_timeout_ms = GRACE_MS));

	end(t);
	wait_end(t->p);
	check_dead(t, "it was alone");
	check_gone(t, "it was alone");
	release(t->p);
}

static void let_exit(struct tree *t)
{
	tell_leader(t, HOSTILE_EXIT);
}

static void let_die(struct tree *t)
{
	CHECK_EQ_INT(nr_kill(t->p, SIGKILL), 0);
}

static void let_stop(struct tree *t)
{
	CHECK_EQ_INT(nr_stop(t->p), 0);
}

HOST(of_one_program_at_a_time)
{
	for (int i = 0; i < 3; i++) {
		lose(let_exit, 0);
		lose(let_die, 0);
		lose(let_stop, 0);
	}
	check_all_gone();
}

TEST(lost_tree_dies_with_the_only_program)
{
	host_run(ARGV("of_one_program_at_a_time"));
}

TEST(lost_tree_dies_with_the_last_program)
{
	struct siblings *s = start_siblings();
	struct tree *t = start_tree(&lost, OPTIONS());

	tell_leader(t, HOSTILE_EXIT);
	wait_end(t->p);
	check_siblings(s, "a lost tree's program ended");
	release(t->p);
	end_siblings(s);
	check_gone(t, "all programs have ended");
	check_all_gone();
}

static void skip_without_own_shepherd(void)
{
	int error = spawn_error(OPTIONS(.argv = PROG("exit", "0"), .flags = NR_OWN_SHEPHERD), NULL);

	if (error == -ENOTSUP)
		SKIP("this library has no NR_OWN_SHEPHERD");
	REQUIRE_EQ_INT(error, 0);
}

TEST(lost_tree_dies_with_a_program_that_has_its_own_shepherd)
{
	struct siblings *s;

	skip_without_own_shepherd();
	s = start_siblings();
	lose(let_exit, NR_OWN_SHEPHERD);
	lose(let_die, NR_OWN_SHEPHERD);
	lose(let_stop, NR_OWN_SHEPHERD);
	check_siblings(s, "a lost tree with its own shepherd ended");
	end_siblings(s);
	check_all_gone();
}

static void end_own_shepherd(const struct shape *shape)
{
	struct tree *t = start_tree(shape, OPTIONS(.flags = NR_OWN_SHEPHERD));
	pid_t shepherd = shepherd_of(t->p);

	tell_leader(t, HOSTILE_EXIT);
	check_end(t, wait_end(t->p), "it had its own shepherd");
	EVENTUALLY(!proc_is_shepherd(shepherd));
}

TEST(program_with_its_own_shepherd_takes_its_tree_along)
{
	skip_without_own_shepherd();
	with_siblings(end_own_shepherd);
}

TEST(own_shepherd_killed_hits_no_other_program)
{
	struct siblings *s;

	skip_without_own_shepherd();
	s = start_siblings();
	for (size_t i = 0; i < COUNT_OF(shapes); i++) {
		struct tree *t = start_tree(&shapes[i], OPTIONS(.flags = NR_OWN_SHEPHERD));

		REQUIRE(kill(shepherd_of(t->p), SIGKILL) == 0);
		CHECK_EQ_INT(nr_wait(t->p, (int)check_patience_ms(), NULL), -EOWNERDEAD);
		check_gone(t, "its own shepherd was killed");
		release(t->p);
		check_siblings(s, shapes[i].name);
		REQUIRE(!check_has_failed());
	}
	end_siblings(s);
	check_all_gone();
}

/* NR_PID_NAMESPACE: the kernel kills the tree, whatever dies at the same time. */

static void in_pid_namespaces(void)
{
	char why[256];
	nr_proc p = nr_spawn(OPTIONS(.argv = PROG("exit", "0"), .flags = NR_PID_NAMESPACE), why,
			     sizeof why);

	/* These are the kernel's words; anything else is a fault of ours. */
	if ((p == -EPERM || p == -ENOSPC || p == -EINVAL) && strstr(why, "for NR_PID_NAMESPACE"))
		SKIP("no PID namespaces here: %s", why);
	REQUIRE(p > 0, "%s", why);
	wait_end(p);
	release(p);
	tree_flags = NR_PID_NAMESPACE;
}

/* The line that a shell prints. */
static const char *line_of(const char *script, nr_options *o)
{
	struct buffer out = { 0 };
	nr_outcome how;

	o->argv = ARGV("sh", "-c", script);
	o->flags |= NR_PID_NAMESPACE;
	nr_proc p = spawn(o);
	CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), 0);
	how = wait_end(p);
	check_code(&how, 0, NR_REASON_OWN);
	release(p);
	return check_format("%.*s", (int)out.len, (const char *)out.data);
}

TEST(program_in_a_pid_namespace_sees_only_that)
{
	char cwd[4096];

	in_pid_namespaces();
	CHECK_STR(line_of("echo $$ $PPID", OPTIONS()), "2 0\n");
	/* It runs beside the program, and may not have got there yet. */
	CHECK_STR(line_of("until grep netrunner-init /proc/1/comm; do :; done", OPTIONS()),
		  "netrunner-init\n");
	CHECK_STR(line_of("cd /proc; echo [0-9] [0-9]*", OPTIONS()), "1 2 1 2\n");
	/* All else is as without. */
	CHECK_STR(line_of("id -u; id -g", OPTIONS()),
		  check_format("%u\n%u\n", geteuid(), getegid()));
	REQUIRE(getcwd(cwd, sizeof cwd));
	CHECK_STR(line_of("/bin/pwd", OPTIONS()), check_format("%s\n", cwd));
	CHECK_STR(line_of("/bin/pwd", OPTIONS(.cwd = "/usr")), "/usr\n");
	CHECK_STR(line_of("ulimit -n; umask",
			  OPTIONS(.flags = NR_SET_UMASK, .umask = 027,
				  .rlimits = &(nr_rlimit){ 7, 0, 77, 77 }, .nrlimits = 1)),
		  "77\n0027\n");
	CHECK_STR(line_of("ls /proc/self/fd | grep -c .", OPTIONS()), "4\n");
	CHECK_STR(line_of("until grep -q netrunner-init /proc/1/comm; do :; done;"
			  "ls -l /proc/1/fd 2>/dev/null | grep -c '[0-9] ->' || :",
			  OPTIONS()),
		  "0\n");
	/* The mounts are its own. */
	CHECK(access(check_format("/proc/%d", getpid()), F_OK) == 0);
}

TEST(failures_in_a_pid_namespace_name_the_step)
{
	in_pid_namespaces();
	for (int i = 0; i < 20; i++) {
		spawn_fails(OPTIONS(.argv = ARGV("/nowhere"), .flags = NR_PID_NAMESPACE), ENOENT,
			    "execve /nowhere");
		spawn_fails(
			OPTIONS(.argv = PROG("exit"), .cwd = "/nowhere", .flags = NR_PID_NAMESPACE),
			ENOENT, "chdir /nowhere");
	}
}

TEST(signals_and_ends_in_a_pid_namespace)
{
	nr_outcome how;

	in_pid_namespaces();
	for (int i = 0; i < 20; i++) {
		nr_proc p =
			spawn(OPTIONS(.argv = ARGV("sh", "-c", "exit 42"), .flags = tree_flags));
		how = wait_end(p);
		check_code(&how, 42, NR_REASON_OWN);
		release(p);
		/* Pid 1 would not notice. */
		p = spawn(OPTIONS(.argv = ARGV("sleep", "1000"), .flags = tree_flags));
		CHECK_EQ_INT(nr_kill(p, SIGTERM), 0);
		how = wait_end(p);
		check_signal(&how, SIGTERM, NR_REASON_KILLED);
		release(p);
		p = spawn(OPTIONS(.argv = ARGV("sleep", "1000"), .flags = tree_flags | NR_PTY));
		CHECK_EQ_INT(nr_stop(p), 0);
		how = wait_end(p);
		CHECK_EQ_INT(how.reason, NR_REASON_KILLED);
		release(p);
	}
}

/* What makes one namespace is used again for the next. */
TEST(programs_live_side_by_side_in_pid_namespaces)
{
	nr_proc p[24];

	in_pid_namespaces();
	for (int round = 0; round < 10; round++) {
		for (size_t i = 0; i < COUNT_OF(p); i++)
			p[i] = spawn(OPTIONS(.argv = ARGV("sleep", "1000"), .flags = tree_flags,
					     .kill_timeout_ms = NR_KILL_NOW));
		for (size_t i = 0; i < COUNT_OF(p); i++)
			CHECK_EQ_INT(nr_kill(p[i], 0), 0);
		for (size_t i = 0; i < COUNT_OF(p); i++)
			release(p[i]);
	}
}

TEST(program_in_a_pid_namespace_takes_its_tree_along)
{
	in_pid_namespaces();
	with_siblings(end_by_itself);
	with_siblings(end_by_kill);
	with_siblings(end_by_stop);
	with_siblings(end_by_release);
	/* Here a mark is not needed. */
	end_by_itself(&lost);
	end_by_stop(&lost);
}

TEST(what_lingers_in_a_pid_namespace_lives_until_release)
{
	in_pid_namespaces();
	for (int i = 0; i < 5; i++) {
		struct tree *t = start_lingering();

		end_by_itself(&shapes[i]);
		CHECK_EQ_INT(count(t->tag.text)->settled, lingering.members);
		CHECK_EQ_INT(nr_kill(t->p, 0), -ESRCH, "its group is gone");
		release(t->p);
		check_gone(t, "it was released");
	}
	with_siblings(end_lingering);
}

TEST(killed_shepherd_takes_pid_namespaces_along)
{
	in_pid_namespaces();
	for (size_t i = 0; i < COUNT_OF(shapes); i++)
		check_killed(&shapes[i], i % 2);
	check_killed(&lost, false);
	check_all_gone();
}

TEST(host_shepherd_and_guardian_killed_at_once)
{
	in_pid_namespaces();
	check_host_deaths(HOST_ | SHEPHERD | GUARDIAN, "host, shepherd and guardian were killed");
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cgroups: where a program is born, that all of its group dies with it and
 * nothing is left, limits, statistics, and what goes wrong in words.
 *
 * What needs no controller runs on any machine that has cgroup2 mounted, also
 * beside version 1; what needs one skips where it is missing, and is for the
 * VM of tests/vm. All groups are made below one of this process, in
 * $NR_TEST_CGROUP, which is a path below the mount point and by default the
 * root; that has to be writable.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "helpers/hostile.h"
#include "support.h"

#define NOBODY 65534

#define BASE(path, ...) OPTIONS(.cgroup_base = (path), __VA_ARGS__)
#define SETTINGS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* The hierarchy. */

/* Where cgroup2 is mounted; "" if nowhere. */
static const char *mount_point(void)
{
	static char found[PATH_MAX];
	char line[4096];
	FILE *f;

	if (*found || !(f = fopen("/proc/self/mountinfo", "re")))
		return found;
	while (!*found && fgets(line, sizeof line, f))
		if (strstr(line, " - cgroup2 "))
			sscanf(line, "%*d %*d %*s %*s %4095s", found);
	fclose(f);
	return found;
}

/* The group in which this process may work. "" is the root. */
static const char *parent(void)
{
	const char *given = getenv("NR_TEST_CGROUP");

	return given ? given : "";
}

/* The file system's path of a group that is given as the library gets it. */
static const char *place(const char *group)
{
	return check_format("%s%s%s", mount_point(), *group ? "/" : "", group);
}

static const char *file_of(const char *group, const char *file)
{
	return check_format("%s/%s", place(group), file);
}

static bool exists(const char *group)
{
	return access(place(group), F_OK) == 0;
}

/* A file's text, without its last newline; NULL if it can't be read. */
static const char *content(const char *path)
{
	struct buffer b = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char chunk[4096];
	ssize_t n = -1;

	while (fd >= 0 && (n = read(fd, chunk, sizeof chunk)) > 0)
		buffer_append(&b, chunk, (size_t)n);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return NULL;
	buffer_append(&b, "", 0);
	if (b.len && b.data[b.len - 1] == '\n')
		b.data[b.len - 1] = '\0';
	return b.data;
}

/* Returns 0 or the errno. */
static int try_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = fd < 0 ? errno : 0;

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		error = errno;
	if (fd >= 0)
		close(fd);
	return error;
}

static void write_to(const char *path, const char *text)
{
	int error = try_write(path, text);

	REQUIRE(error == 0, "%s to %s: %s", text, path, strerror(error));
}

/* The number in a line "KEY NUMBER"; -1 if there is none. */
static long long number_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line && *line; line += strspn(line, "\n")) {
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return atoll(line + len + 1);
		line += strcspn(line, "\n");
	}
	return -1;
}

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = text; at && (at = strstr(at, word)); at += len)
		if ((at == text || at[-1] == ' ') && strchr(" \n", at[len]))
			return true;
	return false;
}

/* What a test makes, and that nothing else is left in the end. */

static struct {
	const char *name; /* of the group that has all others below it */
	const char *made[64];
	size_t count;
	bool left; /* something that no test has made */
} work;

static bool was_made(const char *path)
{
	for (size_t i = 0; i < work.count; i++)
		if (strcmp(path, place(work.made[i])) == 0)
			return true;
	return false;
}

static int look_at_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if ((type == FTW_D || type == FTW_DP) && !was_made(path))
		work.left = true;
	return 0;
}

static bool only_made_is_left(void)
{
	work.left = false;
	nftw(place(work.name), look_at_entry, 16, FTW_PHYS);
	return !work.left;
}

static int remove_group(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	int64_t until = check_now_ms() + 5000;

	(void)st;
	(void)ftw;
	if (type != FTW_D && type != FTW_DP)
		return 0;
	if (!was_made(path))
		CHECK(false, "left behind: %s", path);
	try_write(check_format("%s/cgroup.kill", path), "1");
	while (rmdir(path) < 0 && errno == EBUSY && check_nap(until))
		continue;
	return 0;
}

static void check_nothing_left(void *unused)
{
	(void)unused;
	EVENTUALLY(only_made_is_left());
	nftw(place(work.name), remove_group, 16, FTW_PHYS | FTW_DEPTH);
	CHECK(!exists(work.name), "%s could not be removed", work.name);
	memset(&work, 0, sizeof work);
}

/* A group that this test may use. It is not there yet. */
static const char *top(void)
{
	const char *path;

	if (work.name)
		return work.name;
	if (!*mount_point())
		SKIP("no cgroup2 file system is mounted");
	path = place(parent());
	if (access(path, W_OK) != 0)
		SKIP("%s is not writable: it takes root, or a delegated group in NR_TEST_CGROUP",
		     path);
	work.name = check_format("%s%snetrunner-test-%d", parent(), *parent() ? "/" : "", getpid());
	REQUIRE(!exists(work.name), "%s is there already", work.name);
	check_defer(check_nothing_left, NULL);
	return work.name;
}

static const char *below_top(const char *name)
{
	return check_format("%s/%s", top(), name);
}

/* From now on this is a group that the test has made. */
static const char *adopt(const char *group)
{
	REQUIRE(work.count < COUNT_OF(work.made));
	work.made[work.count++] = group;
	return group;
}

static const char *make_top(void)
{
	const char *group = top();

	if (!exists(group)) {
		REQUIRE(mkdir(place(group), 0755) == 0, "%s: %s", place(group), strerror(errno));
		adopt(group);
	}
	return group;
}

/* Makes a group below top(), and top() too. */
static const char *make_group(const char *name)
{
	const char *group = check_format("%s/%s", make_top(), name);

	REQUIRE(mkdir(place(group), 0755) == 0, "%s: %s", place(group), strerror(errno));
	return adopt(group);
}

static void need_root(void)
{
	if (geteuid() != 0)
		SKIP("only root can set it up");
}

/*
 * Controllers that the library enables on the way down stay enabled. But a test
 * leaves them as they were, one test at a time.
 */
static struct {
	int lock;
	const char *files[2];
	const char *before[2];
} controllers = { .lock = -1 };

static bool restored(size_t i)
{
	const char *now = content(controllers.files[i]);
	const char *word = now;
	bool all = true;

	while (word && *word) {
		const char *end = strchrnul(word, ' ');
		const char *name = check_format("%.*s", (int)(end - word), word);

		if (!has_word(controllers.before[i], name) &&
		    try_write(controllers.files[i], check_format("-%s", name)) != 0)
			all = false;
		word = end + strspn(end, " ");
	}
	return all;
}

static void restore_controllers(void *unused)
{
	(void)unused;
	/* The lower one first. */
	for (size_t i = COUNT_OF(controllers.files); i-- > 0;)
		if (controllers.files[i])
			EVENTUALLY(restored(i));
	close(controllers.lock);
	controllers.lock = -1;
	controllers.files[0] = controllers.files[1] = NULL;
}

static void keep_controllers(void)
{
	int64_t until = check_now_ms() + check_patience_ms();

	if (controllers.lock >= 0)
		return;
	controllers.lock = open(mount_point(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(controllers.lock >= 0);
	check_defer(restore_controllers, NULL);
	while (flock(controllers.lock, LOCK_EX | LOCK_NB) < 0)
		REQUIRE(check_nap(until), "%s is locked", mount_point());
	for (size_t i = 0; i < (*parent() ? 2 : 1); i++) {
		const char *path = file_of(i ? parent() : "", "cgroup.subtree_control");

		if (access(path, W_OK) != 0)
			continue;
		controllers.before[i] = content(path);
		controllers.files[i] = path;
	}
}

static bool has_controller(const char *name)
{
	return *mount_point() && has_word(content(file_of(parent(), "cgroup.controllers")), name);
}

/* To be called before top(). */
static void need_controller(const char *name)
{
	if (!*mount_point())
		SKIP("no cgroup2 file system is mounted");
	if (!has_controller(name))
		SKIP("no %s controller in %s", name, file_of(parent(), "cgroup.controllers"));
	REQUIRE(controllers.lock >= 0 || !work.name);
	keep_controllers();
	top();
}

/* A controller which is not for threads, and a setting that limits nothing. */
struct controller {
	const char *name;
	const char *file;
	const char *value;
	const char *setting;
};

static const struct controller *need_domain_controller(void)
{
	static const struct controller known[] = {
		{ "memory", "memory.low", "4096", "memory.low=4096" },
		{ "hugetlb", "hugetlb.2MB.max", "0", "hugetlb.2MB.max=0" },
	};

	for (size_t i = 0; i < COUNT_OF(known); i++) {
		if (!has_controller(known[i].name) ||
		    (i == 1 && access("/sys/kernel/mm/hugepages/hugepages-2048kB", F_OK) != 0))
			continue;
		need_controller(known[i].name);
		return &known[i];
	}
	SKIP("neither a memory nor a hugetlb controller in %s",
	     file_of(parent(), "cgroup.controllers"));
}

/* Programs. */

/* The group of a process, as the library would be given it; "" if unknown. */
static const char *group_of(pid_t pid)
{
	const char *text = content(check_format("/proc/%d/cgroup", pid));
	const char *line = text ? strstr(text, "0::/") : NULL;

	return line ? check_format("%.*s", (int)strcspn(line + 4, "\n"), line + 4) : "";
}

static const char *group_of_program(nr_proc p)
{
	pid_t pid = nr_pid(p);

	REQUIRE(pid > 0);
	return group_of(pid);
}

/* Whether it is a group that the library makes below a base. */
static bool is_fresh(const char *group, const char *base)
{
	size_t len = strlen(base);

	return strncmp(group, base, len) == 0 && strncmp(group + len, "/netrunner-", 11) == 0 &&
	       !strchr(group + len + 11, '/');
}

static const char *check_fresh(nr_proc p, const char *base)
{
	const char *group = group_of_program(p);

	CHECK(is_fresh(group, base), "%s, base %s", group, base);
	return group;
}

/* It has been removed, at the latest soon. */
static void check_removed(const char *group, const char *when)
{
	EVENTUALLY(!exists(group));
	CHECK(!exists(group), "%s: %s is there", when, group);
}

/* PROG() that lives until the end of the test. */
static const char *const *command(const char *name)
{
	const char **argv = check_alloc(3 * sizeof *argv);

	argv[0] = testprog();
	argv[1] = name;
	return argv;
}

/* A program of three processes, two of which have left its session. */
#define MEMBERS 3

static nr_proc start_members(nr_options *o, bool with_subgroups)
{
	struct buffer out = { 0 };
	nr_proc p;

	o->argv = with_subgroups ? PROG("members", mount_point()) : PROG("members");
	p = spawn(o);
	read_until(p, NR_STDOUT, &out, "ready");
	return p;
}

static nr_proc start_ready(nr_options *o)
{
	struct buffer out = { 0 };
	nr_proc p;

	if (!o->argv)
		o->argv = command("gate");
	p = spawn(o);
	read_until(p, NR_STDOUT, &out, "ready");
	return p;
}

/* A process that somebody else has put into a group. */
static nr_proc start_sitter(const char *group)
{
	nr_proc p = start_ready(OPTIONS(.argv = PROG("pause"), .flags = NR_OWN_SHEPHERD));

	write_to(file_of(group, "cgroup.procs"), check_format("%d", nr_pid(p)));
	return p;
}

static const char *get(nr_proc p, const char *file)
{
	char *text = check_alloc(8192);
	ssize_t n = nr_cgroup_get(p, file, text, 8192);

	CHECK(n >= 0, "%s is -%s", file, nr_errname((int)n));
	if (n < 0)
		return "";
	CHECK_EQ_INT(n, strlen(text), "%s", file);
	text[strcspn(text, "\n") == (size_t)n - 1 ? n - 1 : n] = '\0';
	return text;
}

static nr_statistics stats(nr_proc p)
{
	nr_statistics s = { .size = sizeof s };

	REQUIRE_EQ_INT(nr_stats(p, &s), 0);
	return s;
}

/* Soon: a daemon's parent may be on its way out. */
static void check_processes_are(nr_proc p, uint64_t count)
{
	EVENTUALLY(stats(p).processes == count);
	CHECK_EQ_INT(stats(p).processes, count);
}

static nr_outcome end_of(nr_proc p)
{
	nr_outcome how = wait_end(p);

	release(p);
	return how;
}

static void let_go(nr_proc p)
{
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	end_of(p);
}

/* A spawn that fails, in words, and leaves nothing. */
static const char *check_fails(nr_options *o, int error, const char *part)
{
	size_t alive = count_alive();
	const char *why;

	if (!o->argv)
		o->argv = command("pause");
	why = spawn_fails(o, error, part);
	CHECK_CONTAINS(why, part);
	EVENTUALLY(count_alive() == alive);
	if (work.name)
		EVENTUALLY(only_made_is_left());
	return why;
}

/* Birth. */

TEST(program_starts_in_a_fresh_group_whose_parents_are_made)
{
	const char *base = below_top("a/b");
	nr_proc p = start_ready(BASE(base));
	const char *group = check_fresh(p, base);

	CHECK_CONTAINS(content(file_of(group, "cgroup.procs")), check_format("%d", nr_pid(p)));
	/* The shepherd stays where it is. */
	CHECK_STR(group_of(shepherd_of(p)), group_of(getpid()));
	let_go(p);
	check_removed(top(), "the program has ended");
}

/* What joins its group after the fork loses its first children. */
TEST(first_forks_are_born_in_the_group_100_of_100_times)
{
	const char *base = make_top();

	for (int i = 0; i < 100; i++) {
		const struct buffer *out = output_of(BASE(base, .argv = PROG("born")));
		size_t len = strcspn(out->data, "\n");
		const char *group = check_format("%.*s", (int)len - 1, out->data + 1);

		REQUIRE(len > 1);
		CHECK(is_fresh(group, base), "run %d: %s", i, group);
		for (size_t line = 0; line < 4; line++)
			CHECK(out->len == 4 * (len + 1) &&
				      strncmp(out->data + line * (len + 1), out->data, len) == 0,
			      "run %d: %s", i, out->data);
		REQUIRE(!check_has_failed());
	}
}

TEST(each_program_has_a_fresh_group_of_its_own)
{
	const char *base = top();
	const char *groups[5];
	nr_proc p[5];

	for (size_t i = 0; i < COUNT_OF(p); i++) {
		p[i] = start_ready(BASE(base));
		groups[i] = check_fresh(p[i], base);
		for (size_t k = 0; k < i; k++)
			CHECK(strcmp(groups[k], groups[i]) != 0, "%s", groups[i]);
	}
	for (size_t i = 0; i < COUNT_OF(p); i++) {
		let_go(p[i]);
		check_removed(groups[i], "its program has ended");
		/* The parent is there for as long as it has groups. */
		for (size_t k = i + 1; k < COUNT_OF(p); k++)
			CHECK(exists(groups[k]));
	}
	check_removed(base, "all have ended");
}

TEST(program_of_any_kind_starts_in_its_group)
{
	static const uint64_t flags[] = {
		NR_PTY, NR_SESSION, NR_LINGER, NR_OWN_SHEPHERD, NR_NO_NEW_PRIVS, NR_PID_NAMESPACE,
	};
	const char *base = make_top();

	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		nr_proc p = start_members(BASE(base, .flags = flags[i]), false);
		const char *group = check_fresh(p, base);
		nr_outcome how;

		check_processes_are(p, MEMBERS + (flags[i] == NR_PID_NAMESPACE));
		CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
		how = end_of(p);
		check_signal(&how, SIGKILL, NR_REASON_KILLED);
		check_removed(group, "killed");
	}
}

TEST(program_of_another_user_starts_in_its_group)
{
	const char *base;
	const char *group;
	nr_proc p;

	need_root();
	base = make_top();
	p = start_members(BASE(base, .flags = NR_SET_UID | NR_SET_GID | NR_SET_GROUPS,
			       .uid = NOBODY, .gid = NOBODY, .kill_timeout_ms = NR_KILL_NOW),
			  false);
	group = check_fresh(p, base);
	release(p);
	check_removed(group, "released");
}

TEST(start_in_the_background_is_in_the_group)
{
	const char *base = top();
	nr_proc p = start_ready(BASE(base, .flags = NR_ASYNC));

	/* Its words may be faster than the shepherd's. */
	EVENTUALLY(nr_pid(p) != -EAGAIN);
	check_fresh(p, base);
	let_go(p);
	check_removed(base, "the program has ended");
}

/* cgroup_path. */

TEST(given_group_is_made_and_removed)
{
	const char *group = below_top("a/given");
	nr_proc p = start_ready(OPTIONS(.cgroup_path = group));

	CHECK_STR(group_of_program(p), group);
	let_go(p);
	check_removed(top(), "the program has ended");
	/* And again. */
	p = start_ready(OPTIONS(.cgroup_path = group));
	CHECK_STR(group_of_program(p), group);
	let_go(p);
	check_removed(top(), "the program has ended again");
}

TEST(given_group_that_was_there_is_kept_and_emptied)
{
	const char *group = make_group("given");
	nr_proc sitter = start_sitter(group);
	nr_proc p = start_members(OPTIONS(.cgroup_path = group), false);
	nr_outcome how;

	CHECK_STR(group_of_program(p), group);
	check_processes_are(p, MEMBERS + 1);
	CHECK_EQ_INT(nr_kill(sitter, 0), 0);
	CHECK_EQ_INT(nr_kill(p, SIGTERM), 0);
	end_of(p);
	/* What others have put there is killed, too. */
	how = end_of(sitter);
	CHECK_EQ_INT(how.signal == SIGKILL || how.signal == SIGTERM, true);
	CHECK(exists(group));
	CHECK_STR(content(file_of(group, "cgroup.procs")), "");
	/* It can be used again. */
	let_go(start_ready(OPTIONS(.cgroup_path = group)));
	CHECK(exists(group));
}

/* Twenty times, as it is about who sees first that the group is empty. */
TEST(given_group_ends_with_the_first_of_its_programs)
{
	const char *group = below_top("given");

	for (int i = 0; i < 20; i++) {
		nr_proc first = start_ready(OPTIONS(.cgroup_path = group));
		nr_proc second = start_ready(OPTIONS(.cgroup_path = group));
		nr_outcome how;

		CHECK_STR(group_of_program(second), group);
		let_go(first);
		how = end_of(second);
		check_signal(&how, SIGKILL, NR_REASON_OWN);
		check_removed(group, "both have ended");
		REQUIRE(!check_has_failed());
	}
}

/* Parents. */

TEST(parents_that_were_there_are_kept)
{
	const char *a = make_group("a");
	const char *base = check_format("%s/b/c", a);

	let_go(start_ready(BASE(base)));
	check_removed(check_format("%s/b", a), "the program has ended");
	CHECK(exists(a));
}

TEST(parents_that_others_use_are_kept)
{
	const char *base = below_top("a/b");
	nr_proc p = start_ready(BASE(base));
	const char *group = check_fresh(p, base);
	const char *other = below_top("a/other");

	REQUIRE(mkdir(place(other), 0755) == 0);
	let_go(p);
	check_removed(group, "the program has ended");
	check_removed(base, "the program has ended");
	CHECK(exists(other));
	adopt(other);
	adopt(below_top("a"));
	adopt(top());
}

/* argv: BASE, how many, GROUP to enter or "" */
HOST(with_many_short_programs)
{
	if (*argv[3])
		write_to(file_of(argv[3], "cgroup.procs"), "0");
	for (int i = 0; i < atoi(argv[2]); i++) {
		nr_proc p = spawn(BASE(argv[1], .argv = PROG("exit", "7")));
		nr_outcome how = wait_end(p);

		check_code(&how, 7, NR_REASON_OWN);
		release(p);
		REQUIRE(!check_has_failed(), "program %d", i);
	}
}

/* A base is removed under the eyes of who is about to use it. */
TEST(hosts_may_share_a_base_that_comes_and_goes)
{
	const char *base = below_top("a/b");
	struct host *h[3];

	for (size_t i = 0; i < COUNT_OF(h); i++)
		h[i] = host_start(ARGV("with_many_short_programs", base, "30", ""));
	for (size_t i = 0; i < COUNT_OF(h); i++)
		CHECK_EQ_INT(host_end(h[i]), 0, "host %zu", i);
	check_removed(top(), "all have ended");
}

/*
 * Linux 6.14 and later remember that a group was killed. Who is born from one
 * such group into another that was not, or the other way round, is killed.
 */
TEST(groups_that_were_killed_before_can_be_used)
{
	const char *group = make_group("given");
	const char *home = make_group("home");

	if (access(file_of(group, "cgroup.kill"), F_OK) != 0)
		SKIP("no cgroup.kill, which is there since Linux 5.14");
	write_to(file_of(group, "cgroup.kill"), "1");
	for (int i = 0; i < 3; i++)
		let_go(start_ready(OPTIONS(.cgroup_path = group)));
	write_to(file_of(home, "cgroup.kill"), "1");
	host_run(ARGV("with_many_short_programs", make_group("base"), "3", home));
}

/* Ends. */

#define GRACE_MS 150

enum way {
	LEADER_EXITS,
	LEADER_IS_MURDERED,
	KILLED,
	STOPPED,
	STOPPED_NOW,
	OUT_OF_TIME,
	TOO_MUCH_OUTPUT,
	RELEASED,
	WAYS
};

static const char *const way_names[WAYS] = {
	"leader exits",    "leader is murdered", "killed",          "stopped",
	"stopped at once", "out of time",        "too much output", "released",
};

static struct hostile_census *count(const char *tag)
{
	static struct hostile_census c;

	hostile_count(tag, &c);
	return &c;
}

static void kill_tagged(void *tag)
{
	if (check_has_failed())
		hostile_kill(tag);
}

/* Everything at once of what the tests of containment have one by one. */
static const char hostile_tree[] =
	"leader.breed=3(child,2*session,daemon,deaf.daemon,stopped,session.stopped,"
	"scrub.bare.deaf.daemon.stopped,stubborn(session.zombies=5),sibling.session,"
	"session.keeper=30,lost.daemon)";
#define HOSTILE_MEMBERS 13

static const char *start_hostile(nr_options *o, nr_proc *p, bool wait)
{
	static unsigned made;
	struct hostile_tag *tag = check_alloc(sizeof *tag);
	const char *prog = testprog();
	const char *path = check_format("%.*shostile", (int)(strrchr(prog, '/') + 1 - prog), prog);

	*tag = hostile_new_tag(getpid(), made++);
	check_defer(kill_tagged, tag->text);
	o->argv = ARGV(path, tag->text, check_format("%d", HOSTILE_LIFE_SECONDS), hostile_tree);
	*p = spawn(o);
	if (wait)
		EVENTUALLY(count(tag->text)->settled >= HOSTILE_MEMBERS);
	REQUIRE(!check_has_failed(), "%zu have settled", count(tag->text)->settled);
	return tag->text;
}

static void end_in_a_way(enum way way, nr_proc p)
{
	struct buffer out = { 0 };

	switch (way) {
	case LEADER_EXITS:
		REQUIRE(kill(nr_pid(p), HOSTILE_EXIT) == 0);
		break;
	case LEADER_IS_MURDERED:
		REQUIRE(kill(nr_pid(p), SIGKILL) == 0);
		break;
	case KILLED:
		CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
		break;
	case STOPPED:
	case STOPPED_NOW:
		CHECK_EQ_INT(nr_stop(p), 0);
		break;
	case TOO_MUCH_OUTPUT:
		REQUIRE(kill(nr_pid(p), HOSTILE_WRITE) == 0);
		CHECK_EQ_INT(read_to_end(p, NR_STDOUT, &out), -EFBIG);
		break;
	default:
		break;
	}
}

static void check_way(enum way way, nr_options *o)
{
	static const int reasons[WAYS] = {
		[KILLED] = NR_REASON_KILLED,          [STOPPED] = NR_REASON_KILLED,
		[STOPPED_NOW] = NR_REASON_KILLED,     [OUT_OF_TIME] = NR_REASON_TIMEOUT,
		[TOO_MUCH_OUTPUT] = NR_REASON_OUTPUT,
	};
	const char *name = way_names[way];
	const char *tag;
	const char *group;
	nr_proc p;

	o->kill_timeout_ms = way == STOPPED_NOW ? NR_KILL_NOW : GRACE_MS;
	o->output_limit = way == TOO_MUCH_OUTPUT ? 10000 : 0;
	/* It may not have settled by then. */
	o->timeout_ms = way == OUT_OF_TIME ? 300 : 0;
	tag = start_hostile(o, &p, way != OUT_OF_TIME);
	group = group_of_program(p);
	end_in_a_way(way, p);
	if (way == RELEASED) {
		release(p);
	} else {
		nr_outcome how = wait_end(p);

		CHECK_EQ_INT(how.reason, reasons[way], "%s", name);
		/* At this very moment. */
		CHECK_EQ_INT(count(tag)->alive, 0, "%s", name);
		release(p);
	}
	EVENTUALLY(hostile_gone(tag, count(tag)));
	check_removed(group, name);
	REQUIRE(!check_has_failed(), "%s", name);
}

TEST(every_end_is_the_end_of_the_group)
{
	const char *base = make_top();

	for (enum way way = 0; way < WAYS; way++)
		check_way(way, BASE(base));
}

TEST(every_end_is_the_end_of_a_given_group)
{
	const char *group = below_top("given");

	make_top();
	for (enum way way = 0; way < WAYS; way++)
		check_way(way, OPTIONS(.cgroup_path = group));
}

TEST(end_takes_along_who_has_left_the_group)
{
	const char *base = make_group("base");
	const char *elsewhere = make_group("elsewhere");
	struct buffer out = { 0 };
	nr_proc p = spawn(BASE(base, .argv = PROG("background", "quiet", "0"), .flags = NR_LINGER,
			       .kill_timeout_ms = GRACE_MS));
	pid_t child;

	read_until(p, NR_STDOUT, &out, "child ");
	child = atoi(read_line(p, NR_STDOUT, &out));
	write_to(file_of(elsewhere, "cgroup.procs"), check_format("%d", child));
	CHECK(is_alive(child));
	release(p);
	EVENTUALLY(!is_alive(child));
}

TEST(what_lingers_keeps_its_group_until_release)
{
	const char *base = make_top();
	struct buffer out = { 0 };
	nr_proc p = spawn(BASE(base, .argv = PROG("background", "quiet", "3"), .flags = NR_LINGER));
	nr_outcome how;
	const char *group;
	pid_t child;

	read_until(p, NR_STDOUT, &out, "child ");
	child = atoi(read_line(p, NR_STDOUT, &out));
	group = group_of(child);
	CHECK(is_fresh(group, base), "%s", group);
	how = wait_end(p);
	check_code(&how, 3, NR_REASON_OWN);
	CHECK(is_alive(child));
	CHECK(exists(group));
	release(p);
	EVENTUALLY(!is_alive(child));
	check_removed(group, "released");
}

/* Groups of the program's own. */

TEST(groups_that_the_program_made_go_with_it)
{
	static const enum way ways[] = { LEADER_IS_MURDERED, KILLED, STOPPED, RELEASED };
	const char *base = make_top();

	for (size_t i = 0; i < COUNT_OF(ways); i++) {
		nr_proc p = start_members(BASE(base), true);
		const char *group = check_fresh(p, base);

		CHECK(exists(check_format("%s/sub/deep", group)));
		check_processes_are(p, MEMBERS);
		end_in_a_way(ways[i], p);
		if (ways[i] == RELEASED)
			release(p);
		else
			end_of(p);
		check_removed(group, way_names[ways[i]]);
	}
}

/* The whole group is sent a signal: not the process group, which is smaller. */
TEST(signal_reaches_the_whole_group)
{
	const char *base = make_top();

	for (int deep = 0; deep < 2; deep++) {
		struct buffer out = { 0 };
		nr_proc p = start_members(BASE(base), deep);
		size_t seen = 0;

		CHECK_EQ_INT(nr_kill(p, 0), 0);
		CHECK_EQ_INT(nr_kill(p, SIGUSR1), 0);
		for (int i = 0; i < MEMBERS; i++) {
			const char *word = read_line(p, NR_STDOUT, &out);

			seen += strcmp(word, "leader") == 0 ? 1 : 0;
			seen += strcmp(word, "session") == 0 ? 10 : 0;
			seen += strcmp(word, "daemon") == 0 ? 100 : 0;
		}
		CHECK_EQ_INT(seen, 111, "%s", out.data);
		CHECK_EQ_INT(nr_kill(p, 12345), -EINVAL);
		CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
		wait_end(p);
		CHECK_EQ_INT(nr_kill(p, SIGUSR1), -ESRCH);
		release(p);
	}
}

/* Frozen groups. */

static bool is_frozen(nr_proc p)
{
	return number_of(get(p, "cgroup.events"), "frozen") == 1;
}

static nr_proc start_frozen(nr_options *o)
{
	nr_proc p = start_ready(o);

	REQUIRE_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", "1"), 0);
	EVENTUALLY(is_frozen(p));
	return p;
}

TEST(frozen_group_can_be_killed)
{
	const char *base = make_top();

	for (int by_stop = 0; by_stop < 2; by_stop++) {
		nr_proc p = start_frozen(BASE(base, .kill_timeout_ms = NR_KILL_NOW));
		const char *group = check_fresh(p, base);
		nr_outcome how;

		CHECK_EQ_INT(by_stop ? nr_stop(p) : nr_kill(p, SIGKILL), 0);
		how = end_of(p);
		check_signal(&how, SIGKILL, NR_REASON_KILLED);
		check_removed(group, "killed");
	}
}

/* So that it gets to react. */
TEST(frozen_group_is_thawed_when_it_is_stopped)
{
	const char *base = make_top();
	nr_proc p = start_frozen(BASE(base, .argv = PROG("handle", "15", "5"),
				      .kill_timeout_ms = check_patience_ms() * 2));
	nr_outcome how;

	CHECK_EQ_INT(nr_stop(p), 0);
	how = end_of(p);
	check_code(&how, 5, NR_REASON_KILLED);
}

TEST(frozen_group_ends_when_it_is_released_or_out_of_time)
{
	const char *base = make_top();
	nr_proc p = start_frozen(BASE(base, .kill_timeout_ms = GRACE_MS));
	const char *group = check_fresh(p, base);
	nr_outcome how;

	release(p);
	check_removed(group, "released");
	p = start_frozen(
		BASE(base, .kill_timeout_ms = GRACE_MS, .timeout_ms = check_patience_ms() / 20));
	how = end_of(p);
	CHECK_EQ_INT(how.reason, NR_REASON_TIMEOUT);
}

/* A program would get nowhere in it, not even to its execve(2). */
TEST(frozen_groups_are_refused)
{
	const char *group = make_group("frozen");
	const char *base = make_group("frozen/base");
	nr_proc p;

	check_fails(BASE(make_top(), .cgroup_set = SETTINGS("cgroup.freeze=1")), EBUSY,
		    "is frozen");
	check_fails(
		OPTIONS(.cgroup_path = below_top("x"), .cgroup_set = SETTINGS("cgroup.freeze=1")),
		EBUSY, "is frozen");
	write_to(file_of(group, "cgroup.freeze"), "1");
	CHECK_CONTAINS(check_fails(OPTIONS(.cgroup_path = group), EBUSY, "is frozen"), group);
	check_fails(BASE(group), EBUSY, "is frozen");
	/* By one above. */
	check_fails(OPTIONS(.cgroup_path = base), EBUSY, "is frozen");
	check_fails(BASE(base), EBUSY, "is frozen");
	/* Nobody else was held up. */
	let_go(start_ready(BASE(make_top())));
	write_to(file_of(group, "cgroup.freeze"), "0");
	p = start_ready(BASE(base));
	let_go(p);
}

TEST(frozen_subgroup_can_be_killed)
{
	const char *base = make_top();

	for (int by_stop = 0; by_stop < 2; by_stop++) {
		nr_proc p = start_members(BASE(base, .kill_timeout_ms = GRACE_MS), true);
		const char *group = check_fresh(p, base);
		const char *sub = check_format("%s/sub", group);

		write_to(file_of(sub, "cgroup.freeze"), "1");
		EVENTUALLY(number_of(content(file_of(sub, "cgroup.events")), "frozen") == 1);
		CHECK_EQ_INT(by_stop ? nr_stop(p) : nr_kill(p, SIGKILL), 0);
		end_of(p);
		check_removed(group, "killed");
	}
}

/* Deaths. */

/* argv: BASE or "", PATH or "", "frozen" or "" */
HOST(with_members)
{
	nr_options *o = *argv[1] ? BASE(argv[1]) : OPTIONS(.cgroup_path = argv[2]);
	nr_proc p = start_members(o, true);
	pid_t shepherd = shepherd_of(p);

	if (*argv[3])
		REQUIRE_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", "1"), 0);
	tell("%s", group_of_program(p));
	tell("%d", shepherd);
	tell("%d", proc_parent(shepherd));
	tell("%d", nr_pid(p));
	wait_for_test();
	_exit(3);
}

struct dying {
	struct host *host;
	const char *group;
	pid_t shepherd;
	pid_t guardian;
	pid_t program;
};

static struct dying start_dying(const char *base, const char *path, const char *frozen)
{
	struct dying d = { .host = host_start(ARGV("with_members", base, path, frozen)) };

	d.group = host_line(d.host);
	d.shepherd = atoi(host_line(d.host));
	d.guardian = atoi(host_line(d.host));
	d.program = atoi(host_line(d.host));
	REQUIRE(d.program > 0);
	if (*base)
		CHECK(is_fresh(d.group, base), "%s", d.group);
	else
		CHECK_STR(d.group, path);
	return d;
}

TEST(killed_host_leaves_no_group)
{
	const char *base = below_top("a/b");
	struct dying d = start_dying(base, "", "");

	host_kill(d.host);
	check_removed(top(), "the host was killed");
	d = start_dying("", below_top("given"), "");
	host_kill(d.host);
	check_removed(top(), "the host was killed");
	d = start_dying(base, "", "frozen");
	host_kill(d.host);
	check_removed(top(), "the host was killed");
}

TEST(host_that_exits_leaves_no_group)
{
	struct dying d = start_dying(below_top("a/b"), "", "");

	CHECK_EQ_INT(host_end(d.host), 3 << 8);
	check_removed(top(), "the host has exited");
}

enum victim { HOST_ = 1, SHEPHERD = 2, GUARDIAN = 4 };

static void strike(struct dying *d, int whom)
{
	/* First nobody can react, then all are hit. */
	if (whom & SHEPHERD)
		REQUIRE(kill(d->shepherd, SIGSTOP) == 0);
	if (whom & GUARDIAN)
		REQUIRE(kill(d->guardian, SIGSTOP) == 0);
	if (whom & HOST_)
		host_kill(d->host);
	if (whom & SHEPHERD)
		REQUIRE(kill(d->shepherd, SIGKILL) == 0);
	if (whom & GUARDIAN)
		REQUIRE(kill(d->guardian, SIGKILL) == 0);
}

/* Nobody was left to remove the group: the next one that uses the base does. */
static void check_swept(const char *base, const char *path, int whom)
{
	struct dying d = start_dying(base, path, "");

	strike(&d, whom);
	EVENTUALLY(!proc_is_shepherd(d.shepherd) && !proc_is_shepherd(d.guardian));
	EVENTUALLY(!is_alive(d.program));
	/* One that has not looked yet. */
	let_go(start_ready(OPTIONS(.cgroup_base = *base ? base : NULL,
				   .cgroup_path = *path ? path : NULL, .flags = NR_OWN_SHEPHERD)));
	check_removed(d.group, "the next shepherd has ended");
	EVENTUALLY(count_alive() == (whom & HOST_ ? 0 : 1));
	if (!(whom & HOST_))
		host_kill(d.host);
}

TEST(group_of_a_killed_shepherd_is_removed_by_the_next)
{
	const char *base = below_top("a/b");

	check_swept(base, "", SHEPHERD);
	check_swept(base, "", GUARDIAN);
	check_swept(base, "", HOST_ | SHEPHERD);
	/* Now something lives on, until then. */
	check_swept(base, "", HOST_ | SHEPHERD | GUARDIAN);
	check_removed(top(), "all have ended");
}

TEST(given_group_of_a_killed_shepherd_is_removed_by_the_next)
{
	const char *path = below_top("a/given");

	check_swept("", path, SHEPHERD);
	check_swept("", path, HOST_ | SHEPHERD | GUARDIAN);
	check_removed(top(), "all have ended");
}

/* The host itself goes on, with a shepherd that is new. */
TEST(host_of_a_killed_shepherd_goes_on)
{
	const char *base = below_top("a/b");
	nr_proc p = start_members(BASE(base, .flags = NR_OWN_SHEPHERD), false);
	const char *group = check_fresh(p, base);

	REQUIRE(kill(shepherd_of(p), SIGKILL) == 0);
	CHECK_EQ_INT(nr_wait(p, (int)check_patience_ms(), NULL), -EOWNERDEAD);
	CHECK(nr_cgroup_get(p, "cpu.stat", NULL, 0) < 0);
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", "1"), -ENOENT);
	release(p);
	EVENTUALLY(count_alive() == 0);
	let_go(start_ready(BASE(base, .flags = NR_OWN_SHEPHERD)));
	check_removed(group, "the next shepherd has ended");
	check_removed(top(), "all have ended");
}

TEST(groups_of_the_living_and_of_others_are_not_swept)
{
	const char *base = make_group("base");
	/* Named like ours, but not made by us. */
	const char *foreign = make_group("base/netrunner-1-1");
	nr_proc sitter = start_sitter(foreign);
	nr_proc p = start_members(BASE(base, .flags = NR_OWN_SHEPHERD), false);
	const char *group = check_fresh(p, base);
	struct dying d = start_dying(base, "", "");

	for (int i = 0; i < 3; i++)
		let_go(start_ready(BASE(base, .flags = NR_OWN_SHEPHERD)));
	CHECK_EQ_INT(nr_kill(p, 0), 0);
	check_processes_are(p, MEMBERS);
	CHECK(exists(group));
	CHECK(exists(d.group));
	CHECK(is_alive(d.program));
	CHECK_EQ_INT(nr_kill(sitter, 0), 0);
	CHECK(exists(foreign));
	host_kill(d.host);
	release(p);
	release(sitter);
}

/* nr_cgroup_get(), nr_cgroup_set(). */

TEST(files_are_read_and_written)
{
	const char *base = make_top();
	nr_proc p = start_ready(BASE(base));
	char text[16];

	CHECK_STR(get(p, "cgroup.procs"), check_format("%d", nr_pid(p)));
	CHECK_STR(get(p, "cgroup.max.depth"), "max");
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.max.depth", "3"), 0);
	CHECK_STR(get(p, "cgroup.max.depth"), "3");
	CHECK_STR(content(file_of(group_of_program(p), "cgroup.max.depth")), "3");
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.max.depth", "max\n"), 0);
	CHECK_STR(get(p, "cgroup.max.depth"), "max");
	/* Like snprintf(3): "domain" */
	memset(text, 'x', sizeof text);
	CHECK(nr_cgroup_get(p, "cgroup.type", text, 4) >= 6);
	CHECK_STR(text, "dom");
	CHECK_EQ_INT(text[4], 'x');
	CHECK(nr_cgroup_get(p, "cgroup.type", text, 1) >= 6);
	CHECK_STR(text, "");
	CHECK(nr_cgroup_get(p, "cgroup.type", NULL, 0) >= 6);
	CHECK(number_of(get(p, "cpu.stat"), "usage_usec") >= 0);
	let_go(p);
}

TEST(files_that_are_none)
{
	static const char *const bad[] = { "",
					   "/",
					   "a/b",
					   "/cgroup.procs",
					   "../cgroup.procs",
					   "./cgroup.procs",
					   "cgroup.procs/" };
	nr_proc p = start_ready(BASE(make_top()));
	char text[16];

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		CHECK_EQ_INT(nr_cgroup_get(p, bad[i], text, sizeof text), -EINVAL, "%s", bad[i]);
		CHECK_EQ_INT(nr_cgroup_set(p, bad[i], "1"), -EINVAL, "%s", bad[i]);
	}
	CHECK_EQ_INT(nr_cgroup_get(p, NULL, text, sizeof text), -EINVAL);
	CHECK_EQ_INT(nr_cgroup_get(p, "cgroup.type", NULL, 16), -EINVAL);
	CHECK_EQ_INT(nr_cgroup_set(p, NULL, "1"), -EINVAL);
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", NULL), -EINVAL);
	CHECK(nr_cgroup_get(p, "..", text, sizeof text) < 0);
	CHECK(nr_cgroup_get(p, ".", text, sizeof text) < 0);
	CHECK(nr_cgroup_set(p, "..", "1") < 0);
	CHECK_EQ_INT(nr_cgroup_get(p, "no.such", text, sizeof text), -ENOENT);
	CHECK_EQ_INT(nr_cgroup_set(p, "no.such", "1"), -ENOENT);
	CHECK(!exists(check_format("%s/no.such", group_of_program(p))));
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.max.depth", "few"), -EINVAL);
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", "2"), -ERANGE);
	/* It can't be written, and it can't be read. */
	CHECK(nr_cgroup_set(p, "cgroup.events", "1") < 0);
	CHECK(nr_cgroup_get(p, "cgroup.kill", text, sizeof text) < 0);
	CHECK_EQ_INT(nr_kill(p, 0), 0);
	let_go(p);
}

TEST(files_of_a_program_without_a_group)
{
	nr_proc p = start_ready(OPTIONS());
	char text[16];

	CHECK_EQ_INT(nr_cgroup_get(p, "cpu.stat", text, sizeof text), -ENOENT);
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", "1"), -ENOENT);
	CHECK_EQ_INT(nr_cgroup_get(p, "a/b", text, sizeof text), -EINVAL);
	CHECK_EQ_INT(nr_cgroup_set(p, "a/b", "1"), -EINVAL);
	CHECK_EQ_INT(stats(p).processes, UINT64_MAX);
	let_go(p);
}

TEST(files_are_remembered_after_the_end)
{
	nr_proc p = start_ready(BASE(top()));
	const char *kept;
	char text[16];

	nr_close_stdin(p);
	wait_end(p);
	check_removed(top(), "the program has ended");
	kept = get(p, "cpu.stat");
	CHECK(number_of(kept, "usage_usec") > 0, "%s", kept);
	CHECK_STR(get(p, "cpu.stat"), kept);
	memset(text, 'x', sizeof text);
	CHECK(nr_cgroup_get(p, "cpu.stat", text, 6) > 6);
	CHECK_STR(text, "usage");
	CHECK(nr_cgroup_get(p, "cpu.stat", NULL, 0) > 6);
	CHECK_EQ_INT(nr_cgroup_get(p, "cgroup.procs", text, sizeof text), -ENOENT);
	CHECK_EQ_INT(nr_cgroup_get(p, "a/b", text, sizeof text), -EINVAL);
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", "0"), -ENOENT);
	release(p);
	CHECK_EQ_INT(nr_cgroup_get(p, "cpu.stat", text, sizeof text), -EBADF);
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", "0"), -EBADF);
}

/* Statistics. */

#define BURN_MS 300

/* Of a child that has ended and that nobody has waited for. */
TEST(time_of_the_whole_tree_is_counted)
{
	struct buffer out = { 0 };
	nr_proc p =
		spawn(BASE(make_top(),
			   .argv = SH(check_format("(setsid %s burn %d; echo burnt) & exec %s gate",
						   testprog(), BURN_MS, testprog()))));
	nr_statistics s;

	read_until(p, NR_STDOUT, &out, "burnt\n");
	s = stats(p);
	CHECK(s.user_ns + s.system_ns >= BURN_MS * 900000ull, "%llu ns",
	      (unsigned long long)(s.user_ns + s.system_ns));
	EVENTUALLY(stats(p).processes == 1);
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	wait_end(p);
	s = stats(p);
	CHECK(s.user_ns + s.system_ns >= BURN_MS * 900000ull, "%llu ns",
	      (unsigned long long)(s.user_ns + s.system_ns));
	CHECK_EQ_INT(s.processes, 0);
	release(p);
}

/* Failures. */

TEST(options_that_contradict_or_are_malformed)
{
	static const struct {
		const char *base, *path, *set, *why;
	} cases[] = {
		{ "a", "b", NULL, "cgroup_base and cgroup_path: only one may be given" },
		{ "/x", NULL, NULL, "cgroup_base: \"/x\" is absolute" },
		{ NULL, "/x", NULL, "cgroup_path: \"/x\" is absolute" },
		{ NULL, "/", NULL, "cgroup_path: " },
		{ "a/../b", NULL, NULL, "cgroup_base: \"a/../b\" contains \"..\"" },
		{ NULL, "a/../b", NULL, "cgroup_path: \"a/../b\" contains \"..\"" },
		{ NULL, "..", NULL, "cgroup_path: \"..\" contains \"..\"" },
		{ NULL, "a/..", NULL, "cgroup_path: " },
		{ "", NULL, NULL, "cgroup_base: " },
		{ NULL, "", NULL, "cgroup_path: " },
		{ "a//b", NULL, NULL, "cgroup_base: " },
		{ NULL, "a/./b", NULL, "cgroup_path: " },
		{ NULL, ".", NULL, "cgroup_path: " },
		{ NULL, "a/", NULL, "cgroup_path: " },
		{ NULL, NULL, "pids.max=9", "cgroup_set: without cgroup_base or cgroup_path" },
		{ "a", NULL, "memory.max", "cgroup_set: \"memory.max\" is not NAME=VALUE" },
		{ NULL, "a", "=1", "cgroup_set: " },
		{ NULL, "a", "", "cgroup_set: " },
		{ "a", NULL, "a/b=1", "cgroup_set: " },
		{ "a", NULL, "../memory.max=1", "cgroup_set: " },
	};

	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		const char *const set[] = { cases[i].set, NULL };
		nr_options *o = OPTIONS(.argv = PROG("pause"), .cgroup_base = cases[i].base,
					.cgroup_path = cases[i].path,
					.cgroup_set = cases[i].set ? set : NULL);
		const char *why = spawn_fails(o, EINVAL, cases[i].why);

		CHECK(strncmp(why, cases[i].why, strlen(cases[i].why)) == 0, "%s: %s", why,
		      cases[i].why);
		/* Known at once, also where nothing else is. */
		o->flags = NR_ASYNC;
		CHECK_STR(spawn_fails(o, EINVAL, why), why);
	}
	/* An empty list is none. */
	CHECK_EQ_INT(
		run(OPTIONS(.argv = PROG("exit", "7"), .cgroup_set = SETTINGS(NULL)))->how.code, 7);
}

/* With both kinds of group, the second of which may be there before. */
static void check_setting_fails(const char *setting, int error, const char *part)
{
	const char *base = top();
	const char *path = below_top("given");

	check_fails(BASE(base, .cgroup_set = SETTINGS(setting)), error, part);
	CHECK(!exists(top()) || was_made(place(top())), "%s", setting);
	check_fails(OPTIONS(.cgroup_path = path, .cgroup_set = SETTINGS(setting)), error, part);
	CHECK(!exists(path), "%s", setting);
}

TEST(settings_that_are_unknown_or_refused)
{
	const char *why;
	nr_proc p;

	check_setting_fails("cgroup.nonsense=1", ENOENT, "cgroup.nonsense");
	check_setting_fails("nonsense=1", ENOENT, "nonsense");
	check_setting_fails("cgroup.max.depth=few", EINVAL, "cgroup.max.depth");
	check_setting_fails("cgroup.freeze=2", ERANGE, "cgroup.freeze");
	/* The value, too. Only the first '=' divides. */
	why = check_fails(BASE(top(), .cgroup_set = SETTINGS("cgroup.max.depth=a=b")), EINVAL,
			  "cgroup.max.depth");
	CHECK_CONTAINS(why, "a=b");
	/* The second of them. */
	check_fails(BASE(top(), .cgroup_set = SETTINGS("cgroup.max.depth=5",
						       "cgroup.max.descendants=many")),
		    EINVAL, "cgroup.max.descendants");
	/* The same again, but later. */
	p = spawn(BASE(top(), .argv = PROG("pause"), .flags = NR_ASYNC,
		       .cgroup_set = SETTINGS("cgroup.max.depth=few")));
	CHECK_EQ_INT(nr_wait(p, (int)check_patience_ms(), NULL), -EINVAL);
	why = check_alloc(256);
	nr_why(p, (char *)why, 256);
	CHECK_CONTAINS(why, "cgroup.max.depth");
	CHECK(nr_pid(p) < 0);
	CHECK(nr_cgroup_set(p, "cgroup.freeze", "1") < 0);
	release(p);
	check_removed(top(), "it failed");
	/* And one that is right. */
	p = start_ready(BASE(
		top(), .cgroup_set = SETTINGS("cgroup.max.depth=5", "cgroup.max.descendants=6")));
	CHECK_STR(get(p, "cgroup.max.depth"), "5");
	CHECK_STR(get(p, "cgroup.max.descendants"), "6");
	let_go(p);
}

TEST(controller_that_is_not_there)
{
	static const char *const names[] = { "memory", "cpu", "pids", "io", "cpuset" };
	static const char *const settings[] = { "memory.max=1000000", "cpu.weight=50", "pids.max=9",
						"io.weight=50", "cpuset.cpus=0" };
	size_t missing = 0;

	top();
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		if (has_word(content(file_of("", "cgroup.controllers")), names[i]))
			continue;
		missing++;
		check_setting_fails(settings[i], ENOENT,
				    check_format("controller \"%s\" is not available", names[i]));
	}
	if (!missing)
		SKIP("all controllers are there");
}

/* The program itself fails, when the group is already there. */
TEST(program_that_cannot_be_executed_leaves_no_group)
{
	const char *base = below_top("a/b");
	const char *path = below_top("c/given");

	for (int i = 0; i < 2; i++) {
		nr_options o = { .size = sizeof o };

		o.cgroup_base = i ? NULL : base;
		o.cgroup_path = i ? path : NULL;
		o.argv = ARGV("/nowhere/program");
		check_fails(&o, ENOENT, "/nowhere/program");
		check_removed(top(), "no such program");
		o.argv = PROG("pause");
		o.cwd = "/nowhere";
		check_fails(&o, ENOENT, "/nowhere");
		check_removed(top(), "no such directory");
		o.cwd = NULL;
		o.rlimits = &(nr_rlimit){ .resource = 9999 };
		o.nrlimits = 1;
		CHECK(spawn_error(&o, NULL) < 0);
		check_removed(top(), "no such limit");
	}
}

TEST(groups_that_cannot_be_made)
{
	const char *limited = make_group("limited");
	const char *deep;
	char *name = check_alloc(PATH_MAX + 1);

	memset(name, 'x', PATH_MAX);
	check_fails(BASE(below_top(name)), ENAMETOOLONG, "xxx");
	check_fails(OPTIONS(.cgroup_path = below_top(check_format("a/%s", name))), ENAMETOOLONG,
		    "xxx");
	CHECK(!exists(below_top("a")));
	/* A file where a group should be. */
	CHECK_CONTAINS(check_fails(BASE(below_top("cgroup.procs")), ENOTDIR, "cgroup.procs"),
		       top());
	check_fails(OPTIONS(.cgroup_path = below_top("cgroup.procs")), ENOTDIR, "cgroup.procs");
	check_fails(OPTIONS(.cgroup_path = below_top("cgroup.procs/x")), ENOTDIR, "cgroup.procs");
	/* The half of the way is gone again. */
	write_to(file_of(limited, "cgroup.max.depth"), "2");
	deep = check_format("%s/a/b/c", limited);
	check_fails(BASE(deep), EAGAIN, deep);
	CHECK(!exists(check_format("%s/a", limited)));
	check_fails(OPTIONS(.cgroup_path = deep), EAGAIN, deep);
	CHECK(!exists(check_format("%s/a", limited)));
	write_to(file_of(limited, "cgroup.max.depth"), "max");
	write_to(file_of(limited, "cgroup.max.descendants"), "0");
	check_fails(BASE(limited), EAGAIN, limited);
}

TEST(threaded_groups_are_refused)
{
	const char *why;
	const char *threaded = make_group("threaded");

	write_to(file_of(threaded, "cgroup.type"), "threaded");
	why = check_fails(BASE(threaded), EOPNOTSUPP, "threaded");
	CHECK_CONTAINS(why, top());
	why = check_fails(OPTIONS(.cgroup_path = threaded), EOPNOTSUPP, "threaded");
	CHECK_CONTAINS(why, threaded);
	/* The group above has become the domain of the threads. */
	check_fails(OPTIONS(.cgroup_path = check_format("%s/x", threaded)), EOPNOTSUPP, "threaded");
}

TEST(group_with_processes_hands_nothing_down)
{
	const struct controller *c = need_domain_controller();
	const char *busy = make_group("busy");
	nr_proc sitter = start_sitter(busy);
	const char *why;

	why = check_fails(BASE(busy, .cgroup_set = SETTINGS(c->setting)), EBUSY,
			  file_of(busy, "cgroup.subtree_control"));
	CHECK_CONTAINS(why, c->name);
	CHECK_CONTAINS(why, "process");
	check_fails(OPTIONS(.cgroup_path = check_format("%s/x/y", busy),
			    .cgroup_set = SETTINGS(c->setting)),
		    EBUSY, file_of(busy, "cgroup.subtree_control"));
	/* Without a controller it is no problem. */
	let_go(start_ready(BASE(busy)));
	CHECK_EQ_INT(nr_kill(sitter, 0), 0);
	release(sitter);
}

/* The other way round: a program in a group that hands controllers down. */
TEST(group_that_hands_down_takes_no_program)
{
	const struct controller *c = need_domain_controller();
	const char *inner = make_group("inner");
	nr_proc p = start_ready(BASE(inner, .cgroup_set = SETTINGS(c->setting)));
	const char *why;

	why = spawn_fails(OPTIONS(.cgroup_path = inner, .argv = PROG("exit", "0")), EBUSY, inner);
	CHECK_CONTAINS(why, inner);
	CHECK_CONTAINS(why, "hands controllers down");
	/* It was not ended by that. */
	CHECK_EQ_INT(nr_kill(p, 0), 0);
	let_go(p);
}

TEST(controllers_are_enabled_on_the_way_down)
{
	const struct controller *c = need_domain_controller();
	const char *base = below_top("a/b");
	nr_proc p = start_ready(BASE(base, .cgroup_set = SETTINGS(c->setting)));

	CHECK_STR(get(p, c->file), c->value);
	CHECK(has_word(content(file_of(base, "cgroup.subtree_control")), c->name));
	CHECK(has_word(content(file_of(top(), "cgroup.subtree_control")), c->name));
	let_go(p);
	p = start_ready(OPTIONS(.cgroup_path = base, .cgroup_set = SETTINGS(c->setting)));
	CHECK_STR(get(p, c->file), c->value);
	CHECK_STR(content(file_of(base, "cgroup.subtree_control")), "");
	let_go(p);
}

/* Rights. */

/* argv: BASE, SETTING or "", GROUP to enter or "" */
HOST(without_rights)
{
	const char *const set[] = { *argv[2] ? argv[2] : NULL, NULL };
	char why[1024];
	nr_options *o = BASE(argv[1], .argv = PROG("members", mount_point()), .cgroup_set = set);
	struct buffer out = { 0 };
	const char *group;
	nr_proc p;

	if (*argv[3])
		write_to(file_of(argv[3], "cgroup.procs"), "0");
	REQUIRE(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
	if (access(testprog(), X_OK) != 0) {
		tell("inaccessible");
		return;
	}
	p = nr_spawn(o, why, sizeof why);
	if (p < 0) {
		tell("-%s", nr_errname((int)p));
		tell("%s", why);
		return;
	}
	read_until(p, NR_STDOUT, &out, "ready\n");
	group = group_of_program(p);
	tell("0");
	tell("%s", group);
	check_processes_are(p, MEMBERS);
	CHECK_EQ_INT(nr_cgroup_set(p, "cgroup.freeze", "1"), 0);
	EVENTUALLY(is_frozen(p));
	if (*argv[2])
		CHECK_STR(get(p, check_format("%.*s", (int)strcspn(argv[2], "="), argv[2])),
			  strchr(argv[2], '=') + 1);
	CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
	wait_end(p);
	check_removed(group, "killed");
	release(p);
}

/* Returns why, or the group. */
static const char *try_without_rights(const char *base, const char *setting, const char *enter,
				      const char *result)
{
	struct host *h = host_start(ARGV("without_rights", base, setting, enter));
	const char *line = host_line(h);
	const char *text = host_line(h);

	CHECK_EQ_INT(host_end(h), 0);
	if (strcmp(line, "inaccessible") == 0)
		SKIP("%s is not accessible for all", testprog());
	CHECK_STR(line, result, "%s", text);
	EVENTUALLY(only_made_is_left());
	return text;
}

/* What systemd does for Delegate=yes, and its User= has it. */
static const char *make_delegated(const char *name)
{
	static const char *const files[] = { "", "cgroup.procs", "cgroup.subtree_control",
					     "cgroup.threads" };
	const char *group = make_group(name);

	for (size_t i = 0; i < COUNT_OF(files); i++)
		REQUIRE(chown(file_of(group, files[i]), NOBODY, NOBODY) == 0);
	return group;
}

TEST(user_works_in_a_delegated_group)
{
	const char *group;
	const char *base;

	need_root();
	base = make_delegated("delegated");
	make_delegated("delegated/host");
	group = try_without_rights(base, "", below_top("delegated/host"), "0");
	CHECK(is_fresh(group, base), "%s", group);
	base = below_top("delegated/a/b");
	group = try_without_rights(base, "cgroup.max.depth=5", below_top("delegated/host"), "0");
	CHECK(is_fresh(group, base), "%s", group);
}

/* The controllers are enabled above it, and by the user below it. */
TEST(user_has_limits_in_a_delegated_group)
{
	const struct controller *c;
	const char *base;

	need_root();
	c = need_domain_controller();
	base = make_delegated("delegated");
	make_delegated("delegated/host");
	if (*parent() == 0)
		write_to(file_of("", "cgroup.subtree_control"), check_format("+%s", c->name));
	write_to(file_of(top(), "cgroup.subtree_control"), check_format("+%s", c->name));
	try_without_rights(base, c->setting, below_top("delegated/host"), "0");
}

TEST(user_is_told_about_delegation)
{
	const char *base;
	const char *why;

	need_root();
	base = make_group("forbidden");
	why = try_without_rights(base, "", "", "-EACCES");
	CHECK_CONTAINS(why, place(base));
	CHECK_CONTAINS(why, "delegat");
	why = try_without_rights(check_format("%s/a/b", base), "", "", "-EACCES");
	CHECK_CONTAINS(why, place(base));
	CHECK_CONTAINS(why, "delegat");
}

/* What somebody meets who tries it out, on a machine where nothing is set up. */
TEST(newcomer_is_told_about_delegation)
{
	const char *why;

	if (!*mount_point())
		SKIP("no cgroup2 file system is mounted");
	if (access(mount_point(), W_OK) == 0)
		SKIP("this user may do all");
	why = check_fails(BASE("netrunner"), EACCES, file_of("", "netrunner"));
	CHECK_CONTAINS(why, "delegat");
	CHECK_CONTAINS(why, "docs/cgroups.md");
}

/* The group may be used, but not entered from where the host is. */
TEST(user_outside_of_the_delegated_group_is_told)
{
	const char *why;
	const char *base;

	need_root();
	base = make_delegated("delegated");
	why = try_without_rights(base, "", "", "-EACCES");
	CHECK_CONTAINS(why, base);
	CHECK_CONTAINS(why, "delegat");
	CHECK_CONTAINS(why, "cgroup.procs");
}

/* A controller would have to be enabled above the delegated group. */
TEST(user_is_told_about_missing_controllers)
{
	const struct controller *c;
	const char *why;
	const char *base;

	need_root();
	c = need_domain_controller();
	base = make_delegated("delegated");
	make_delegated("delegated/host");
	why = try_without_rights(base, c->setting, below_top("delegated/host"), "-EACCES");
	CHECK_CONTAINS(why, c->name);
	CHECK_CONTAINS(why, "cgroup.subtree_control");
	CHECK_CONTAINS(why, "delegat");
}

/* Where cgroup2 is mounted, and how. */

static void in_mount_namespace(void)
{
	REQUIRE(unshare(CLONE_NEWNS) == 0, "%s", strerror(errno));
	REQUIRE(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "%s", strerror(errno));
}

static void run_in_mount_namespace(const char *kind, const char *argument)
{
	need_root();
	make_top();
	host_run(ARGV("with_other_mounts", kind, work.name, argument));
	EVENTUALLY(only_made_is_left());
}

/* argv: KIND, BASE, a directory */
HOST(with_other_mounts)
{
	const char *kind = argv[1];
	const char *base = argv[2];
	char old[PATH_MAX];
	int error = 0;
	nr_proc p;

	snprintf(old, sizeof old, "%s", mount_point());
	in_mount_namespace();
	if (strcmp(kind, "none") == 0) {
		REQUIRE(umount2(old, MNT_DETACH) == 0, "%s", strerror(errno));
		error = ENODEV;
	} else if (strcmp(kind, "tmpfs") == 0) {
		/* What other libraries take for a cgroup. */
		REQUIRE(mount("tmpfs", old, "tmpfs", 0, NULL) == 0, "%s", strerror(errno));
		error = ENODEV;
	} else if (strcmp(kind, "read-only") == 0) {
		REQUIRE(mount(NULL, old, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0, "%s",
			strerror(errno));
		error = EROFS;
	} else if (strcmp(kind, "elsewhere") == 0) {
		REQUIRE(mount("none", argv[3], "cgroup2", 0, NULL) == 0, "%s", strerror(errno));
		REQUIRE(umount2(old, MNT_DETACH) == 0, "%s", strerror(errno));
	} else if (strcmp(kind, "below") == 0) {
		/* A part of it, as containers have it. */
		REQUIRE(mount(place(base), argv[3], NULL, MS_BIND, NULL) == 0, "%s",
			strerror(errno));
		REQUIRE(umount2(old, MNT_DETACH) == 0, "%s", strerror(errno));
		base = "inside";
	}
	if (error) {
		const char *why = check_fails(BASE(base), error, "cgroup");

		if (error == EROFS)
			CHECK_CONTAINS(why, "read-only");
		else
			CHECK_CONTAINS(why, "cgroup2");
		return;
	}
	p = start_members(BASE(base, .cgroup_set = SETTINGS("cgroup.max.depth=5")), false);
	CHECK(is_fresh(group_of_program(p),
		       check_format("%s%s", argv[2], *base == 'i' ? "/inside" : "")),
	      "%s", group_of_program(p));
	CHECK_STR(get(p, "cgroup.max.depth"), "5");
	check_processes_are(p, MEMBERS);
	CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
	end_of(p);
}

TEST(no_cgroup2_at_all)
{
	run_in_mount_namespace("none", "");
}

TEST(tmpfs_is_not_taken_for_cgroup2)
{
	run_in_mount_namespace("tmpfs", "");
}

TEST(read_only_mount_is_told)
{
	run_in_mount_namespace("read-only", "");
}

TEST(cgroup2_is_found_where_it_is_mounted)
{
	need_root();
	run_in_mount_namespace("elsewhere", scratch_dir("a \"b\"\tc\\d"));
}

TEST(part_of_the_hierarchy_is_enough)
{
	need_root();
	run_in_mount_namespace("below", scratch_dir("part"));
}

/* Controllers. */

static nr_outcome end_with(nr_options *o, nr_statistics *s)
{
	nr_proc p = spawn(o);
	nr_outcome how = wait_end(p);

	if (s)
		*s = stats(p);
	release(p);
	return how;
}

#define LIMITED(...) SETTINGS("memory.max=16777216", __VA_ARGS__)

TEST(program_killed_for_want_of_memory)
{
	nr_statistics s;
	nr_outcome how;
	nr_proc p;

	need_controller("memory");
	p = spawn(BASE(top(), .argv = PROG("allocate", "64"), .cgroup_set = LIMITED(NULL)));
	how = wait_end(p);
	check_signal(&how, SIGKILL, NR_REASON_OOM);
	CHECK_EQ_INT(number_of(get(p, "memory.events"), "oom_kill"), 1);
	s = stats(p);
	CHECK(s.memory_peak > 8 << 20 && s.memory_peak <= 16 << 20, "%llu",
	      (unsigned long long)s.memory_peak);
	CHECK_EQ_INT(s.memory_peak, atoll(get(p, "memory.peak")));
	CHECK_EQ_INT(s.memory, 0);
	release(p);
	check_removed(top(), "out of memory");
}

/* It may not even come to its execve(2). */
TEST(limit_that_is_too_low_to_start)
{
	const char *why;
	nr_outcome how;
	nr_proc p;

	need_controller("memory");
	p = spawn(BASE(top(), .argv = PROG("allocate", "1"), .flags = NR_ASYNC,
		       .cgroup_set = SETTINGS("memory.max=4096")));
	how.size = sizeof how;
	if (nr_wait(p, (int)check_patience_ms(), &how) == 0)
		check_signal(&how, SIGKILL, NR_REASON_OOM);
	release(p);
	check_removed(top(), "it did not start");
	need_controller("pids");
	why = check_fails(BASE(top(), .cgroup_set = SETTINGS("pids.max=0")), EAGAIN, "pids.max");
	CHECK_CONTAINS(why, top());
}

/* A child is killed; that is the reason of a failure, but not of a success. */
TEST(child_killed_for_want_of_memory)
{
	const char *script = check_format("%s allocate 64 || exit 3", testprog());
	nr_outcome how;

	need_controller("memory");
	how = end_with(BASE(top(), .argv = SH(script), .cgroup_set = LIMITED(NULL)), NULL);
	check_code(&how, 3, NR_REASON_OOM);
	script = check_format("%s allocate 64 || exit 0", testprog());
	how = end_with(BASE(top(), .argv = SH(script), .cgroup_set = LIMITED(NULL)), NULL);
	check_code(&how, 0, NR_REASON_OWN);
}

TEST(whole_group_is_killed_for_want_of_memory)
{
	const char *script = check_format("%s allocate 64; exit 3", testprog());
	nr_outcome how;

	need_controller("memory");
	how = end_with(BASE(top(), .argv = SH(script), .cgroup_set = LIMITED("memory.oom.group=1")),
		       NULL);
	check_signal(&how, SIGKILL, NR_REASON_OOM);
}

/* A limit that was not reached is no reason, nor one that was before. */
TEST(other_ends_are_not_for_want_of_memory)
{
	const char *path;
	const char *script;
	nr_outcome how;
	nr_proc p;

	need_controller("memory");
	p = start_ready(BASE(make_top(), .cgroup_set = LIMITED(NULL)));
	REQUIRE(kill(nr_pid(p), SIGKILL) == 0);
	how = end_of(p);
	check_signal(&how, SIGKILL, NR_REASON_OWN);

	path = make_group("given");
	how = end_with(OPTIONS(.cgroup_path = path, .argv = PROG("allocate", "64"),
			       .cgroup_set = LIMITED(NULL)),
		       NULL);
	check_signal(&how, SIGKILL, NR_REASON_OOM);
	how = end_with(OPTIONS(.cgroup_path = path, .argv = PROG("exit", "4")), NULL);
	check_code(&how, 4, NR_REASON_OWN);

	/* The caller's doing, after a child was killed. */
	script = check_format("%s allocate 64; exec %s pause", testprog(), testprog());
	p = start_ready(BASE(top(), .argv = SH(script), .cgroup_set = LIMITED(NULL)));
	CHECK_EQ_INT(number_of(get(p, "memory.events"), "oom_kill"), 1);
	CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
	how = end_of(p);
	check_signal(&how, SIGKILL, NR_REASON_KILLED);
}

TEST(limit_of_a_running_program_can_be_changed)
{
	const char *script = check_format("echo ready; read line; exec %s allocate 64", testprog());
	nr_outcome how;
	nr_proc p;

	need_controller("memory");
	p = start_ready(BASE(top(), .argv = SH(script), .cgroup_set = LIMITED(NULL)));
	CHECK_EQ_INT(nr_cgroup_set(p, "memory.max", "max"), 0);
	CHECK_STR(get(p, "memory.max"), "max");
	CHECK_EQ_INT(nr_close_stdin(p), 0);
	how = wait_end(p);
	check_code(&how, 0, NR_REASON_OWN);
	CHECK(stats(p).memory_peak >= 64 << 20);
	release(p);
}

TEST(memory_of_the_whole_tree_is_counted)
{
	const char *script = check_format("%s allocate 1; echo ready; exec cat", testprog());
	nr_statistics s;
	nr_proc p;

	need_controller("memory");
	p = start_ready(BASE(top(), .argv = SH(script), .cgroup_set = SETTINGS("memory.low=0")));
	s = stats(p);
	CHECK(s.memory > 0 && s.memory < 1 << 30, "%llu", (unsigned long long)s.memory);
	CHECK(s.memory_peak >= 1 << 20 && s.memory_peak >= s.memory, "%llu, now %llu",
	      (unsigned long long)s.memory_peak, (unsigned long long)s.memory);
	let_go(p);
}

TEST(program_is_slowed_down)
{
	nr_outcome how;
	nr_proc p;

	need_controller("cpu");
	p = spawn(BASE(top(), .argv = PROG("burn", "200"),
		       .cgroup_set = SETTINGS("cpu.max=5000 20000")));
	how = wait_end(p);
	check_code(&how, 0, NR_REASON_OWN);
	CHECK(number_of(get(p, "cpu.stat"), "nr_throttled") > 0, "%s", get(p, "cpu.stat"));
	release(p);
}

TEST(forks_are_limited)
{
	struct buffer out = { 0 };
	nr_proc p;

	need_controller("pids");
	p = spawn(BASE(top(), .argv = PROG("forks", "50"), .cgroup_set = SETTINGS("pids.max=5")));
	CHECK_STR(read_line(p, NR_STDOUT, &out), "made 4, EAGAIN");
	check_processes_are(p, 5);
	CHECK_STR(get(p, "pids.current"), "5");
	CHECK_EQ_INT(nr_kill(p, SIGKILL), 0);
	wait_end(p);
	CHECK(number_of(get(p, "pids.events"), "max") >= 1);
	release(p);
}

TEST(fork_bomb_is_held_and_killed)
{
	struct buffer out = { 0 };
	const char *group;
	nr_proc p;

	need_controller("pids");
	p = spawn(BASE(top(), .argv = PROG("bomb", "2000"), .cgroup_set = SETTINGS("pids.max=20"),
		       .kill_timeout_ms = GRACE_MS));
	group = group_of_program(p);
	CHECK_STR(read_line(p, NR_STDOUT, &out), "done");
	CHECK_STR(get(p, "pids.current"), "20");
	CHECK(number_of(get(p, "pids.events"), "max") > 100);
	CHECK_EQ_INT(nr_stop(p), 0);
	end_of(p);
	check_removed(group, "stopped");
	check_removed(top(), "stopped");
}

/* A setting, what is read from its file then, and the controller it needs. */
struct setting {
	const char *controller;
	const char *file;
	const char *value;
	const char *read;
};

static const struct setting settings[] = {
	{ "cpu", "cpu.weight", "50", "50" },
	{ "cpu", "cpu.weight.nice", "5", "5" },
	{ "cpu", "cpu.max", "20000 50000", "20000 50000" },
	{ "cpu", "cpu.max", "max", "max 100000" },
	{ "cpu", "cpu.max.burst", "0", "0" },
	{ "cpu", "cpu.idle", "1", "1" },
	{ "memory", "memory.min", "1M", "1048576" },
	{ "memory", "memory.low", "2M", "2097152" },
	{ "memory", "memory.high", "64M", "67108864" },
	{ "memory", "memory.max", "64M", "67108864" },
	{ "memory", "memory.swap.max", "0", "0" },
	{ "memory", "memory.oom.group", "1", "1" },
	{ "pids", "pids.max", "33", "33" },
	{ "io", "io.weight", "50", "default 50" },
	{ "io", "io.weight", "default 60", "default 60" },
	{ "io", "io.max", "1:0 wbps=1048576 wiops=max",
	  "1:0 rbps=max wbps=1048576 riops=max wiops=max" },
	{ "cpuset", "cpuset.cpus", "0", "0" },
	{ "cpuset", "cpuset.mems", "0", "0" },
	{ "hugetlb", "hugetlb.2MB.max", "2097152", "2097152" },
};

/* All that are to be had here. */
static size_t list_settings(const struct setting *found[COUNT_OF(settings)])
{
	size_t n = 0;

	for (size_t i = 0; i < COUNT_OF(settings); i++)
		if (has_controller(settings[i].controller) &&
		    (strcmp(settings[i].file, "io.max") != 0 || access("/dev/ram0", F_OK) == 0))
			found[n++] = &settings[i];
	if (!n)
		SKIP("no controllers in %s", file_of(parent(), "cgroup.controllers"));
	keep_controllers();
	return n;
}

static const char *assignment(const struct setting *s)
{
	return check_format("%s=%s", s->file, s->value);
}

TEST(settings_have_the_names_of_the_kernel)
{
	const struct setting *found[COUNT_OF(settings)];
	size_t n = list_settings(found);

	for (size_t i = 0; i < n; i++) {
		nr_proc p = start_ready(BASE(top(), .cgroup_set = SETTINGS(assignment(found[i]))));

		CHECK_STR(get(p, found[i]->file), found[i]->read, "%s", assignment(found[i]));
		let_go(p);
	}
}

TEST(settings_of_all_controllers_at_once)
{
	const struct setting *found[COUNT_OF(settings)];
	size_t n = list_settings(found);
	const char *set[COUNT_OF(settings) + 1] = { NULL };
	size_t used = 0;
	nr_proc p;

	/* The last of those for one file; nothing but cpu.idle excludes others. */
	for (size_t i = 0; i < n; i++)
		if (strncmp(found[i]->file, "cpu.", 4) != 0 || strcmp(found[i]->value, "50") == 0)
			set[used++] = assignment(found[i]);
	p = start_ready(BASE(below_top("a/b"), .cgroup_set = set));
	for (size_t i = 0; i < n; i++)
		if (strncmp(found[i]->file, "memory.", 7) == 0 ||
		    strncmp(found[i]->file, "pids.", 5) == 0)
			CHECK_STR(get(p, found[i]->file), found[i]->read);
	let_go(p);
	check_removed(top(), "the program has ended");
}

/* A setting of a controller that changes nothing. */
static const char *harmless(const char *controller)
{
	static const char *const all[] = { "cpu.weight=100", "memory.low=0", "pids.max=max",
					   "io.weight=100", "cpuset.cpus=0" };

	for (size_t i = 0; i < COUNT_OF(all); i++)
		if (strncmp(all[i], controller, strcspn(all[i], ".")) == 0 &&
		    !controller[strcspn(all[i], ".")])
			return all[i];
	abort();
}

TEST(values_that_the_kernel_refuses)
{
	static const struct setting refused[] = {
		{ .controller = "cpu", .file = "cpu.weight", .value = "0" },
		{ .controller = "cpu", .file = "cpu.weight", .value = "much" },
		{ .controller = "cpu", .file = "cpu.max", .value = "1" },
		{ .controller = "memory", .file = "memory.max", .value = "much" },
		{ .controller = "memory", .file = "memory.oom.group", .value = "2" },
		{ .controller = "pids", .file = "pids.max", .value = "-1" },
		{ .controller = "io", .file = "io.weight", .value = "0" },
		{ .controller = "io", .file = "io.max", .value = "250:250 rbps=1000000" },
		{ .controller = "cpuset", .file = "cpuset.cpus", .value = "x" },
		{ .controller = "cpuset", .file = "cpuset.mems", .value = "1000" },
	};
	size_t done = 0;

	for (size_t i = 0; i < COUNT_OF(refused); i++) {
		const char *by_hand;
		const char *why;
		nr_proc p;
		int error;

		if (!has_controller(refused[i].controller))
			continue;
		done++;
		keep_controllers();
		/* What the kernel says to a group of the same kind. */
		p = start_ready(
			BASE(make_top(), .cgroup_set = SETTINGS(harmless(refused[i].controller))));
		by_hand = file_of(group_of_program(p), refused[i].file);
		error = try_write(by_hand, refused[i].value);
		CHECK(error != 0, "%s", assignment(&refused[i]));
		CHECK_EQ_INT(nr_cgroup_set(p, refused[i].file, refused[i].value), -error, "%s",
			     assignment(&refused[i]));
		let_go(p);
		EVENTUALLY(only_made_is_left());
		why = check_fails(BASE(top(), .cgroup_set = SETTINGS(assignment(&refused[i]))),
				  error, refused[i].file);
		CHECK_CONTAINS(why, refused[i].value);
	}
	if (!done)
		SKIP("no controllers in %s", file_of(parent(), "cgroup.controllers"));
}

TEST(pressure_and_traffic_can_be_read)
{
	static const char *const files[] = { "memory.events",   "cpu.stat",    "cpu.pressure",
					     "memory.pressure", "io.pressure", "io.stat",
					     "pids.events",     "memory.peak" };
	nr_proc p;

	need_controller("memory");
	need_controller("pids");
	need_controller("io");
	p = start_ready(BASE(
		top(), .cgroup_set = SETTINGS("memory.low=0", "pids.max=max", "io.weight=100")));
	for (size_t i = 0; i < COUNT_OF(files); i++)
		get(p, files[i]);
	CHECK_CONTAINS(get(p, "cpu.pressure"), "some avg10=");
	nr_close_stdin(p);
	wait_end(p);
	for (size_t i = 0; i < COUNT_OF(files); i++)
		get(p, files[i]);
	CHECK_CONTAINS(get(p, "cpu.pressure"), "some avg10=");
	CHECK_EQ_INT(number_of(get(p, "memory.events"), "oom_kill"), 0);
	release(p);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * hostile - builds a tree of processes that do not want to be killed.
 *
 *     hostile [-c FILE] TAG SECONDS TREE
 *
 *     TREE   = NODE [ "(" CHILD { "," CHILD } ")" ]
 *     CHILD  = [ COUNT "*" ] TREE
 *     NODE   = WORD { "." WORD }
 *
 * The process itself is the first node. What a node does is done in the order
 * of its words, which are in the table below; then it makes its children, then
 * it does what it is to do in the end, which is to wait if it was not told.
 * So the same TREE is the same tree, every time:
 *
 *     leader(deaf.daemon, 20*session, child(scrub.bare(stopped)))
 *
 * TAG becomes the name of every process, see hostile.h. Every process is
 * killed by the kernel after SECONDS from the start, at most 60. FILE, if
 * given, begins with a number of 8 bytes, to which one is added for each.
 */

#define _GNU_SOURCE
#include "hostile.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* Bounds of what one tree may be, whatever it says. */
#define MAX_PROCESSES 3000
#define MAX_RUN_MS 20000

static const char *tag;
static const char *counter_path;
static _Atomic uint64_t *counter;
static int64_t end_of_life; /* CLOCK_MONOTONIC, ms */

static _Noreturn void broken(const char *what)
{
	dprintf(STDERR_FILENO, "hostile: %s\n", what);
	_exit(100);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

/*
 * A timer that sends SIGKILL also ends a process that is stopped or ignores
 * all else. A fork has none, and neither has it the alarm, which is there in
 * case that the timer can't be made.
 */
static void limit_life(void)
{
	struct sigevent kill_me = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct itimerspec at = { .it_value = { .tv_sec = end_of_life / 1000,
					       .tv_nsec = end_of_life % 1000 * 1000000 } };
	int64_t left = end_of_life - now_ms();
	timer_t timer;

	if (left <= 0)
		_exit(0);
	alarm((unsigned)(left / 1000 + 2));
	if (timer_create(CLOCK_MONOTONIC, &kill_me, &timer) == 0)
		timer_settime(timer, TIMER_ABSTIME, &at, NULL);
}

static void begin(void)
{
	prctl(PR_SET_NAME, tag);
	if (counter)
		atomic_fetch_add(counter, 1);
	limit_life();
}

static void settle(void)
{
	char name[16];

	snprintf(name, sizeof name, "%s+", tag);
	prctl(PR_SET_NAME, name);
}

/* fork() whose child is a process of its own. -1: there may be no more. */
static pid_t fork_node(bool with_my_parent)
{
	pid_t pid = with_my_parent ? (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)
				   : fork();

	if (pid == 0)
		begin();
	return pid;
}

/* What a node does in the end. */

struct node;
typedef void ending(struct node *n);

struct node {
	ending *end;
	int number;       /* of the word that chose the end */
	bool gives_birth; /* on SIGTERM */
};

static volatile sig_atomic_t has_been_told;
static volatile sig_atomic_t has_been_woken;

static void on_told(int sig)
{
	if (sig == HOSTILE_EXIT)
		_exit(HOSTILE_EXIT_CODE);
	has_been_told = 1;
}

static void on_wake(int sig)
{
	(void)sig;
	has_been_woken = 1;
}

static void on_child(int sig)
{
	(void)sig;
}

static void handle(int sig, void (*handler)(int))
{
	sigaction(sig, &(struct sigaction){ .sa_handler = handler }, NULL);
}

static void write_for_ever(void)
{
	static char text[4096];

	memset(text, 'x', sizeof text);
	while (write(STDOUT_FILENO, text, sizeof text) > 0)
		continue;
}

/* Waits until something has happened, at most until the end of its life. */
static void wait_for_signal(const sigset_t *open)
{
	int64_t left = end_of_life - now_ms();
	struct timespec timeout = { .tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000 };

	if (left <= 0)
		_exit(0);
	ppoll(NULL, 0, &timeout, open);
}

static void block_own_signals(sigset_t *open)
{
	sigset_t closed;

	sigprocmask(SIG_SETMASK, NULL, open);
	closed = *open;
	sigaddset(&closed, SIGCHLD);
	sigaddset(&closed, SIGTERM);
	sigaddset(&closed, HOSTILE_WRITE);
	sigprocmask(SIG_SETMASK, &closed, NULL);
}

static void end_waiting(struct node *n)
{
	sigset_t open;

	handle(SIGCHLD, on_child);
	block_own_signals(&open);
	settle();
	for (;;) {
		while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
			continue;
		if (has_been_told) {
			has_been_told = 0;
			write_for_ever();
		}
		if (n->gives_birth && has_been_woken && n->number-- > 0) {
			has_been_woken = 0;
			if (fork_node(false) == 0) {
				n->gives_birth = false;
				setsid();
				settle();
			}
		}
		wait_for_signal(&open);
	}
}

static void end_at_once(struct node *n)
{
	_exit(n->number);
}

/* Zombies, which are never reaped. */
static void end_careless(struct node *n)
{
	sigset_t open;

	for (int i = 0; i < n->number; i++)
		if (fork_node(false) == 0)
			_exit(0);
	sigprocmask(SIG_SETMASK, NULL, &open);
	settle();
	for (;;)
		wait_for_signal(&open);
}

/* So many processes in all, as fast as they can. */
static void end_as_bomb(struct node *n)
{
	int left = n->number - 1;

	while (left > 0) {
		int share = (left + 1) / 2;
		pid_t pid = fork_node(false);

		if (pid < 0)
			break;
		left = pid == 0 ? share - 1 : left - share;
	}
	end_waiting(n);
}

/*
 * A process that forks and ends, and its child does the same: whoever looks
 * for it finds it gone. Each is in a session of its own.
 */
static void end_running(struct node *n)
{
	int64_t until = now_ms() + MAX_RUN_MS;

	settle();
	for (int i = 0; i < n->number && now_ms() < until; i++) {
		pid_t pid = fork_node(false);

		if (pid > 0)
			_exit(0);
		if (pid < 0)
			nap();
		else
			setsid();
	}
	_exit(0);
}

/* Has a child again whenever it was killed. */
static void end_keeping(struct node *n)
{
	int64_t until = now_ms() + MAX_RUN_MS;
	sigset_t open;

	handle(SIGCHLD, on_child);
	block_own_signals(&open);
	settle();
	for (int i = 0; i < n->number && now_ms() < until; i++) {
		pid_t pid = fork_node(false);

		if (pid == 0) {
			setsid();
			settle();
			for (;;)
				wait_for_signal(&open);
		}
		while (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0)
			wait_for_signal(&open);
	}
	for (;;)
		wait_for_signal(&open);
}

/* What a node does first. */

static void be_leader(struct node *n, int number)
{
	(void)n;
	(void)number;
	handle(HOSTILE_EXIT, on_told);
	handle(HOSTILE_WRITE, on_told);
}

static void be_child(struct node *n, int number)
{
	(void)n;
	(void)number;
}

static void be_in_group(struct node *n, int number)
{
	(void)n;
	(void)number;
	setpgid(0, 0);
}

static void be_in_session(struct node *n, int number)
{
	(void)n;
	(void)number;
	/* Who leads a group can't. A shell's job can only fork. */
	if (setsid() < 0)
		setpgid(0, 0);
}

/* Into the group of a child. The group that it was made for is left empty. */
static void be_moved(struct node *n, int number)
{
	pid_t pid = fork_node(false);

	(void)number;
	if (pid == 0) {
		setpgid(0, 0);
		n->end(n);
	}
	setpgid(pid, pid);
	setpgid(0, pid);
}

static void be_daemon(struct node *n, int number)
{
	(void)n;
	(void)number;
	setsid();
	if (fork_node(false) > 0)
		_exit(0);
}

static void be_bare(struct node *n, int number)
{
	(void)n;
	(void)number;
	syscall(SYS_close_range, 0, UINT_MAX, 0);
	for (int fd = 0; fd < 1024; fd++) /* before Linux 5.9 */
		close(fd);
}

static void be_deaf(struct node *n, int number)
{
	sigset_t all;

	(void)n;
	(void)number;
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGCHLD && sig != SIGALRM && sig != HOSTILE_EXIT && sig != HOSTILE_WRITE)
			signal(sig, SIG_IGN);
	/* And by the mask, but for what limits its life and what a leader obeys. */
	sigfillset(&all);
	sigdelset(&all, SIGALRM);
	sigdelset(&all, SIGCHLD);
	sigdelset(&all, HOSTILE_EXIT);
	sigdelset(&all, HOSTILE_WRITE);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/* The program may go, its member stays: it is only deaf to a polite end. */
static void be_stubborn(struct node *n, int number)
{
	(void)n;
	(void)number;
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
}

/* No program of ours is told from another by it any more. */
static void be_lost(struct node *n, int number)
{
	struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };

	(void)n;
	(void)number;
	setrlimit(RLIMIT_LOCKS, &none);
}

/* What follows happens when its parent dies, or on SIGTERM. */
static void be_asleep(struct node *n, int number)
{
	sigset_t open;
	pid_t parent = getppid();

	(void)n;
	(void)number;
	handle(SIGTERM, on_wake);
	block_own_signals(&open);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	settle();
	while (!has_been_woken && getppid() == parent)
		wait_for_signal(&open);
	has_been_woken = 0;
	prctl(PR_SET_PDEATHSIG, 0);
	signal(SIGTERM, SIG_IGN);
	sigprocmask(SIG_SETMASK, &open, NULL);
}

static void be_stopped(struct node *n, int number)
{
	(void)n;
	(void)number;
	settle();
	raise(SIGSTOP);
}

static void be_fertile(struct node *n, int number)
{
	handle(SIGTERM, on_wake);
	n->gives_birth = true;
	n->number = number;
}

#define ENDING(name, function)                                \
	static void choose_##name(struct node *n, int number) \
	{                                                     \
		n->end = function;                            \
		n->number = number;                           \
	}

ENDING(exit, end_at_once)
ENDING(zombies, end_careless)
ENDING(bomb, end_as_bomb)
ENDING(runner, end_running)
ENDING(keeper, end_keeping)

static const struct word {
	const char *text;
	void (*act)(struct node *n, int number);
} words[] = {
	{ "leader", be_leader },  /* obeys HOSTILE_EXIT and HOSTILE_WRITE */
	{ "child", be_child },    /* nothing */
	{ "group", be_in_group }, /* a process group of its own */
	{ "session", be_in_session },
	{ "moved", be_moved },         /* the group of a child of its own */
	{ "daemon", be_daemon },       /* a session of its own, and an orphan */
	{ "sibling", be_child },       /* a child of its parent's parent, see make_child */
	{ "scrub", NULL },             /* execve(2) without an environment, see be */
	{ "bare", be_bare },           /* without descriptors */
	{ "deaf", be_deaf },           /* ignores and blocks what signals it can */
	{ "stubborn", be_stubborn },   /* ignores SIGTERM */
	{ "lost", be_lost },           /* sets its limits anew */
	{ "stopped", be_stopped },     /* by SIGSTOP */
	{ "asleep", be_asleep },       /* until it is being killed */
	{ "breed", be_fertile },       /* =N: a child for each SIGTERM */
	{ "exit", choose_exit },       /* =N: with that code, at once */
	{ "zombies", choose_zombies }, /* =N: so many */
	{ "bomb", choose_bomb },       /* =N: so many processes */
	{ "runner", choose_runner },   /* =N: forks and exits so many times */
	{ "keeper", choose_keeper },   /* =N: replaces a child so many times */
};

static const struct word *find_word(const char *text, size_t len)
{
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strlen(words[i].text) == len && strncmp(words[i].text, text, len) == 0)
			return &words[i];
	broken("no such word in TREE");
}

/* Where the tree that begins here ends. */
static const char *end_of_tree(const char *at)
{
	int depth = 0;

	for (; *at; at++) {
		if (*at == '(')
			depth++;
		else if (depth == 0 && (*at == ',' || *at == ')'))
			break;
		else if (*at == ')')
			depth--;
	}
	return at;
}

static _Noreturn void be(const char *tree);

static void scrub(const char *rest)
{
	char spec[4096], end[32];
	char *args[] = { "hostile", "-c", (char *)counter_path, (char *)tag, end, spec, NULL };
	char *args_without[] = { "hostile", (char *)tag, end, spec, NULL };
	char *nothing[] = { NULL };
	int len = (int)(end_of_tree(rest) - rest);

	snprintf(spec, sizeof spec, "%.*s", len, rest);
	snprintf(end, sizeof end, "@%lld", (long long)end_of_life);
	execve("/proc/self/exe", counter_path ? args : args_without, nothing);
	/* Under some limits it can't; then it goes on as it is. */
}

static void make_child(const char *tree)
{
	pid_t pid = fork_node(strncmp(tree, "sibling", 7) == 0);

	if (pid == 0)
		be(tree);
}

static void make_children(const char *at)
{
	while (*at && *at != ')') {
		const char *tree = at;
		char *end;
		long count = strtol(at, &end, 10);

		if (end == at)
			count = 1;
		else if (*end == '*' && count > 0 && count <= MAX_PROCESSES)
			tree = end + 1;
		else
			broken("bad count in TREE");
		while (count-- > 0)
			make_child(tree);
		at = end_of_tree(tree);
		if (*at == ',')
			at++;
	}
}

static _Noreturn void be(const char *tree)
{
	struct node n = { .end = end_waiting };
	const char *at = tree;

	for (;;) {
		size_t len = strcspn(at, ".=,()");
		const struct word *w = find_word(at, len);
		long number = 0;

		at += len;
		if (*at == '=') {
			number = strtol(at + 1, (char **)&at, 10);
			if (number < 0 || number > MAX_PROCESSES)
				broken("bad number in TREE");
		}
		/* Its children have to be there before it stops. */
		if (w->act == be_stopped && *at == '(') {
			make_children(at + 1);
			at = end_of_tree(at);
		}
		if (w->act)
			w->act(&n, (int)number);
		else
			scrub(*at == '.' ? at + 1 : "child");
		if (*at != '.')
			break;
		at++;
	}
	if (*at == '(')
		make_children(at + 1);
	n.end(&n);
	_exit(0);
}

static void open_counter(void)
{
	int fd = open(counter_path, O_RDWR | O_CLOEXEC);
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		counter = map;
}

int main(int argc, char **argv)
{
	const char *life;
	bool is_first;

	if (argc > 2 && strcmp(argv[1], "-c") == 0) {
		counter_path = argv[2];
		open_counter();
		argc -= 2;
		argv += 2;
	}
	if (argc != 4 || strlen(argv[1]) > 14)
		broken("usage: hostile [-c FILE] TAG SECONDS TREE");
	tag = argv[1];
	life = argv[2];
	is_first = *life != '@';
	if (is_first) {
		int seconds = atoi(life);

		if (seconds <= 0 || seconds > HOSTILE_LIFE_SECONDS)
			broken("bad SECONDS");
		end_of_life = now_ms() + seconds * 1000;
	} else {
		end_of_life = atoll(life + 1);
	}
	/* The name and the limit do not survive an execve(2). */
	prctl(PR_SET_NAME, tag);
	if (is_first && counter)
		atomic_fetch_add(counter, 1);
	limit_life();
	/* A test may signal a whole group; only a leader is meant. */
	signal(HOSTILE_EXIT, SIG_IGN);
	signal(HOSTILE_WRITE, SIG_IGN);
	be(argv[3]);
}

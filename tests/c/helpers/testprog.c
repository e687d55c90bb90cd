/* SPDX-License-Identifier: Apache-2.0 */

/*
 * testprog - the program that the tests run: one executable, many behaviours.
 *
 *     testprog COMMAND [ARGUMENT...]
 *
 * Each command tells what it sees of its surroundings, or misbehaves in one
 * exact way. It is linked statically, so that it works with any environment,
 * directory and limit. Its commands are in the table at the end.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"

extern char **environ;

/* Exit codes of testprog itself, far from those that tests ask for. */
enum { EXIT_USAGE = 100, EXIT_BROKEN = 101 };

static void broken(const char *what)
{
	dprintf(STDERR_FILENO, "testprog: %s: %s\n", what, strerror(errno));
	_exit(EXIT_BROKEN);
}

static void put_all(int fd, const void *buf, size_t len)
{
	const char *at = buf;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			broken("write");
		at += n;
		len -= (size_t)n;
	}
}

static void put(const char *text)
{
	put_all(STDOUT_FILENO, text, strlen(text));
}

static int number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n < INT_MIN || n > INT_MAX) {
		dprintf(STDERR_FILENO, "testprog: not a number: %s\n", text);
		_exit(EXIT_USAGE);
	}
	return (int)n;
}

/*
 * No program of a failed test lives for ever. A fork has no alarm of its own,
 * so whoever forks here calls it again.
 */
static void limit_life(void)
{
	alarm(300);
}

static void rest(void)
{
	for (;;)
		pause();
}

static pid_t fork_or_die(void)
{
	pid_t pid = fork();

	if (pid < 0)
		broken("fork");
	if (pid == 0)
		limit_life();
	return pid;
}

static void on_signal(int sig, void (*handler)(int), int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

	sigfillset(&sa.sa_mask);
	if (sigaction(sig, &sa, NULL) < 0)
		broken("sigaction");
}

/* What a program sees of its surroundings. */

static int cmd_args(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		put_all(STDOUT_FILENO, argv[i], strlen(argv[i]) + 1);
	return 0;
}

static int cmd_env(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (char **e = environ; *e; e++)
		put_all(STDOUT_FILENO, *e, strlen(*e) + 1);
	return 0;
}

/* status KEY...: "KEY=value" of lines of /proc/self/status. */
static int cmd_status(int argc, char **argv)
{
	char line[4096];
	FILE *f = fopen("/proc/self/status", "re");

	if (!f)
		broken("/proc/self/status");
	while (fgets(line, sizeof line, f)) {
		char *colon = strchr(line, ':');

		if (!colon)
			continue;
		*colon = '\0';
		for (int i = 2; i < argc; i++) {
			if (strcmp(argv[i], line) == 0) {
				const char *value = colon + 1;

				value += strspn(value, " \t");
				printf("%s=%s", line, value);
			}
		}
	}
	fclose(f);
	return 0;
}

/* A line "NUMBER FLAGS TARGET" for each open descriptor, in order. */
static int cmd_fds(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (int fd = 0; fd < 4096; fd++) {
		char path[64];
		char target[PATH_MAX] = "";
		int status = fcntl(fd, F_GETFL);
		int cloexec = fcntl(fd, F_GETFD);

		if (status < 0)
			continue;
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof target - 1) < 0)
			broken(path);
		printf("%d %s%s%s\n", fd, status & O_NONBLOCK ? "nonblocking " : "",
		       cloexec & FD_CLOEXEC ? "cloexec " : "", target);
	}
	return 0;
}

/* Lines "KEY=value" about identity and everything else that is inherited. */
static int cmd_about(int argc, char **argv)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;
	gid_t groups[1024];
	int ngroups = getgroups(1024, groups);
	char cwd[PATH_MAX];
	mode_t mask = umask(0);

	(void)argc;
	(void)argv;
	if (ngroups < 0 || getresuid(&ruid, &euid, &suid) < 0 || getresgid(&rgid, &egid, &sgid) < 0)
		broken("ids");
	printf("uid=%u %u %u\n", ruid, euid, suid);
	printf("gid=%u %u %u\n", rgid, egid, sgid);
	printf("groups=");
	for (int i = 0; i < ngroups; i++)
		printf("%s%u", i ? " " : "", groups[i]);
	printf("\numask=%03o\n", (unsigned)mask);
	printf("nice=%d\n", getpriority(PRIO_PROCESS, 0));
	printf("no_new_privs=%d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	printf("cwd=%s\n", getcwd(cwd, sizeof cwd) ? cwd : strerror(errno));
	printf("pid=%d\nppid=%d\n", getpid(), getppid());
	printf("pgid=%d\nsid=%d\n", getpgrp(), getsid(0));
	return 0;
}

/* A line "RESOURCE SOFT HARD" for each limit. */
static int cmd_limits(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		struct rlimit r;

		if (getrlimit(i, &r) < 0)
			broken("getrlimit");
		printf("%d %llu %llu\n", i, (unsigned long long)r.rlim_cur,
		       (unsigned long long)r.rlim_max);
	}
	return 0;
}

/* Lines "KEY=value" about the terminal. */
static int cmd_tty(int argc, char **argv)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);

	(void)argc;
	(void)argv;
	for (int fd = 0; fd < 3; fd++) {
		const char *name = ttyname(fd);

		printf("fd%d=%s\n", fd, name ? name : "-");
	}
	printf("dev_tty=%s\n", tty >= 0 ? "opens" : strerror(errno));
	if (tty >= 0) {
		printf("foreground=%s\n", tcgetpgrp(tty) == getpgrp() ? "yes" : "no");
		printf("session=%s\n", tcgetsid(tty) == getsid(0) ? "yes" : "no");
	}
	printf("leader=%s\n", getsid(0) == getpid() ? "yes" : "no");
	return 0;
}

/* Ways to end. */

static int cmd_exit(int argc, char **argv)
{
	return argc > 2 ? number(argv[2]) : 0;
}

static int cmd_die(int argc, char **argv)
{
	sigset_t none;

	if (argc < 3)
		return EXIT_USAGE;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(number(argv[2]), SIG_DFL);
	raise(number(argv[2]));
	return EXIT_BROKEN;
}

/* Says "ready" and exits with the given code at the end of stdin. */
static int cmd_gate(int argc, char **argv)
{
	char c;

	put("ready\n");
	while (read(STDIN_FILENO, &c, 1) > 0)
		continue;
	return argc > 2 ? number(argv[2]) : 0;
}

static int cmd_pause(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	put("ready\n");
	rest();
	return 0;
}

/* Byte streams. */

/* copy [FROM TO] */
static int cmd_copy(int argc, char **argv)
{
	static char buf[65536];
	int from = argc > 3 ? number(argv[2]) : STDIN_FILENO;
	int to = argc > 3 ? number(argv[3]) : STDOUT_FILENO;
	ssize_t n;

	while ((n = read(from, buf, sizeof buf)) > 0)
		put_all(to, buf, (size_t)n);
	if (n < 0)
		broken("read");
	return 0;
}

/* Says "waiting", and copies stdin to stdout from the first SIGUSR1 on. */
static int cmd_copy_on_signal(int argc, char **argv)
{
	sigset_t usr1;
	int sig;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	put("waiting\n");
	sigwait(&usr1, &sig);
	return cmd_copy(argc, argv);
}

/* sip: reads stdin a little at a time and says how much it was. */
static int cmd_sip(int argc, char **argv)
{
	char buf[777];
	unsigned long long total = 0;
	bool intact = true;
	ssize_t n;

	(void)argc;
	(void)argv;
	while ((n = read(STDIN_FILENO, buf, sizeof buf)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if ((unsigned char)buf[i] != pattern_byte(total + (size_t)i))
				intact = false;
		total += (unsigned long long)n;
		if (total / 65536 != (total - (unsigned long long)n) / 65536)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	printf("%llu %s\n", total, intact ? "intact" : "damaged");
	return 0;
}

/* write FD COUNT...: so many bytes of the pattern to each descriptor. */
static int cmd_write(int argc, char **argv)
{
	static unsigned char buf[65536];

	for (int i = 2; i + 1 < argc; i += 2) {
		int fd = number(argv[i]);
		size_t count = (size_t)number(argv[i + 1]);

		for (size_t at = 0; at < count;) {
			size_t n = count - at < sizeof buf ? count - at : sizeof buf;

			pattern_fill(buf, at, n);
			put_all(fd, buf, n);
			at += n;
		}
	}
	return 0;
}

/* flood CHARACTER: without end */
static int cmd_flood(int argc, char **argv)
{
	static char buf[4096];

	memset(buf, argc > 2 ? argv[2][0] : 'y', sizeof buf);
	for (;;)
		put_all(STDOUT_FILENO, buf, sizeof buf);
	return 0;
}

/* A line to stdout for every line of stdin, so each waits for the other. */
static int cmd_lines(int argc, char **argv)
{
	char line[4096];

	(void)argc;
	(void)argv;
	while (fgets(line, sizeof line, stdin)) {
		printf("got %s", line);
		fflush(stdout);
	}
	return 0;
}

/* alternate N: N numbered lines, in turn to stdout and to stderr. */
static int cmd_alternate(int argc, char **argv)
{
	for (int i = 0; i < (argc > 2 ? number(argv[2]) : 0); i++)
		dprintf(i % 2 ? STDERR_FILENO : STDOUT_FILENO, "%d\n", i);
	return 0;
}

static int cmd_close_stdin(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	close(STDIN_FILENO);
	put("closed\n");
	rest();
	return 0;
}

/* Closes its outputs and lives on till the end of stdin. */
static int cmd_close_outputs(int argc, char **argv)
{
	char c;

	put("last words\n");
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	while (read(STDIN_FILENO, &c, 1) > 0)
		continue;
	return argc > 2 ? number(argv[2]) : 0;
}

/* Signals. */

static volatile sig_atomic_t counted[NSIG];

static void count_signal(int sig)
{
	counted[sig]++;
}

/*
 * count: "ready", then for each line of stdin a line "SIGNAL:TIMES ..." of all
 * signals received so far.
 */
static int cmd_count(int argc, char **argv)
{
	char c;
	ssize_t n;

	(void)argc;
	(void)argv;
	alarm(0); /* SIGALRM is counted like the others */
	for (int sig = 1; sig < NSIG; sig++) {
		if (sig == SIGKILL || sig == SIGSTOP || (sig >= 32 && sig < SIGRTMIN))
			continue;
		on_signal(sig, count_signal, SA_RESTART);
	}
	put("ready\n");
	while ((n = read(STDIN_FILENO, &c, 1)) != 0) {
		char line[2048];
		size_t len = 0;

		if (n < 0 && errno != EINTR)
			broken("read");
		if (n < 0 || c != '\n')
			continue;
		for (int sig = 1; sig < NSIG; sig++)
			if (counted[sig])
				len += (size_t)snprintf(line + len, sizeof line - len, "%d:%d ",
							sig, (int)counted[sig]);
		len += (size_t)snprintf(line + len, sizeof line - len, "\n");
		put_all(STDOUT_FILENO, line, len);
	}
	return 0;
}

/* ignore SIGNAL...: "ready", and nothing more. */
static int cmd_ignore(int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		signal(number(argv[i]), SIG_IGN);
	return cmd_pause(argc, argv);
}

static int handle_fd;
static int handle_code;

static void say_and_exit(int sig)
{
	(void)sig;
	if (write(handle_fd, "signal\n", 7) < 0)
		_exit(EXIT_BROKEN);
	_exit(handle_code);
}

/* handle SIGNAL CODE [FD]: "signal" to FD and exit CODE when it comes. */
static int cmd_handle(int argc, char **argv)
{
	if (argc < 4)
		return EXIT_USAGE;
	handle_code = number(argv[3]);
	handle_fd = argc > 4 ? number(argv[4]) : STDOUT_FILENO;
	on_signal(number(argv[2]), say_and_exit, 0);
	return cmd_pause(argc, argv);
}

static char relay_word[] = "parent\n";

static void say_word(int sig)
{
	(void)sig;
	if (write(STDOUT_FILENO, relay_word, sizeof relay_word - 1) < 0)
		_exit(EXIT_BROKEN);
}

/* relay: it and a child of its group say their word at each SIGUSR1. */
static int cmd_relay(int argc, char **argv)
{
	int ready[2];
	char c;

	(void)argc;
	(void)argv;
	if (pipe(ready) < 0)
		broken("pipe");
	on_signal(SIGUSR1, say_word, SA_RESTART);
	if (fork_or_die() == 0) {
		memcpy(relay_word, "child.\n", sizeof relay_word);
		put_all(ready[1], "x", 1);
		rest();
	}
	if (read(ready[0], &c, 1) != 1)
		broken("read");
	put("ready\n");
	rest();
	return 0;
}

/* Descendants. */

/*
 * background HOW CODE: leaves a child in its group, says "child PID" and exits
 * CODE. HOW: "quiet" closes the child's outputs, "loud" leaves them open,
 * "stubborn" is quiet and ignores SIGTERM and SIGHUP.
 */
static int cmd_background(int argc, char **argv)
{
	int ready[2];
	pid_t child;
	char c;

	if (argc < 4 || pipe2(ready, O_CLOEXEC) < 0)
		return EXIT_USAGE;
	child = fork_or_die();
	if (child == 0) {
		if (strcmp(argv[2], "stubborn") == 0) {
			signal(SIGTERM, SIG_IGN);
			signal(SIGHUP, SIG_IGN);
		}
		if (strcmp(argv[2], "loud") != 0) {
			int null = open("/dev/null", O_RDWR | O_CLOEXEC);

			dup2(null, STDIN_FILENO);
			dup2(null, STDOUT_FILENO);
			dup2(null, STDERR_FILENO);
		}
		put_all(ready[1], "x", 1);
		rest();
	}
	if (read(ready[0], &c, 1) != 1)
		broken("read");
	printf("child %d\n", child);
	return number(argv[3]);
}

/*
 * family: a child in its group, "child PID", and both wait for ever. The child
 * ignores SIGTERM if there is an argument.
 */
static int cmd_family(int argc, char **argv)
{
	int ready[2];
	pid_t child;
	char c;

	(void)argv;
	if (pipe2(ready, O_CLOEXEC) < 0)
		broken("pipe");
	child = fork_or_die();
	if (child == 0) {
		if (argc > 2)
			signal(SIGTERM, SIG_IGN);
		put_all(ready[1], "x", 1);
		rest();
	}
	if (read(ready[0], &c, 1) != 1)
		broken("read");
	printf("child %d\n", child);
	fflush(stdout);
	rest();
	return 0;
}

/* late: exits at once; its child says "late" at the end of stdin. */
static int cmd_late(int argc, char **argv)
{
	char c;

	(void)argc;
	(void)argv;
	if (fork_or_die() != 0)
		return 0;
	while (read(STDIN_FILENO, &c, 1) > 0)
		continue;
	put("late\n");
	return 0;
}

/* Resources. */

static int cmd_burn(int argc, char **argv)
{
	clock_t until = (argc > 2 ? number(argv[2]) : 0) * (CLOCKS_PER_SEC / 1000);
	volatile unsigned spin = 0;

	while (clock() < until)
		spin++;
	return 0;
}

static int cmd_allocate(int argc, char **argv)
{
	size_t len = (size_t)(argc > 2 ? number(argv[2]) : 0) << 20;
	static char *memory; /* until it ends */

	memory = malloc(len + 1);
	if (!memory)
		broken("malloc");
	memset(memory, 1, len + 1);
	return memory[len / 2] == 1 ? 0 : EXIT_BROKEN;
}

/* cgroups. */

/* The path of this process' group, from the root of the hierarchy. */
static void own_cgroup(char *path, size_t len)
{
	char line[4096];
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		broken("/proc/self/cgroup");
	*path = '\0';
	while (fgets(line, sizeof line, f))
		if (strncmp(line, "0::", 3) == 0)
			snprintf(path, len, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
	fclose(f);
}

static void say_cgroup(void)
{
	char path[4096];

	own_cgroup(path, sizeof path - 1);
	strcat(path, "\n");
	put(path);
}

/* born: three forks, before anything else; they and it say their cgroups. */
static int cmd_born(int argc, char **argv)
{
	pid_t children[3];

	(void)argc;
	(void)argv;
	for (size_t i = 0; i < 3; i++) {
		children[i] = fork_or_die();
		if (children[i] == 0) {
			say_cgroup();
			_exit(0);
		}
	}
	for (size_t i = 0; i < 3; i++)
		waitpid(children[i], NULL, 0);
	say_cgroup();
	return 0;
}

static void enter_below(const char *mount)
{
	char own[4096];
	char path[4200];
	int fd;

	own_cgroup(own, sizeof own);
	snprintf(path, sizeof path, "%s/%s/sub", mount, own);
	if (mkdir(path, 0755) < 0)
		broken(path);
	strcat(path, "/deep");
	if (mkdir(path, 0755) < 0)
		broken(path);
	strcat(path, "/cgroup.procs");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		broken(path);
	close(fd);
}

static char member_word[16];

static void say_member(int sig)
{
	(void)sig;
	if (write(STDOUT_FILENO, member_word, strlen(member_word)) < 0)
		_exit(EXIT_BROKEN);
}

static void become_member(const char *word)
{
	snprintf(member_word, sizeof member_word, "%s\n", word);
	on_signal(SIGUSR1, say_member, SA_RESTART);
}

/*
 * members [MOUNT]: it, a child in its own session and a daemon; the daemon in
 * a subgroup of a subgroup that it makes, if MOUNT tells where. Says "ready"
 * when all are in place. At SIGUSR1 each says who it is.
 */
static int cmd_members(int argc, char **argv)
{
	int ready[2];
	char c;

	if (pipe2(ready, O_CLOEXEC) < 0)
		broken("pipe");
	become_member("leader");
	if (fork_or_die() == 0) {
		become_member("session");
		setsid();
		put_all(ready[1], "x", 1);
		rest();
	}
	if (fork_or_die() == 0) {
		setsid();
		if (fork_or_die() != 0)
			_exit(0);
		become_member("daemon");
		if (argc > 2)
			enter_below(argv[2]);
		put_all(ready[1], "x", 1);
		rest();
	}
	for (int i = 0; i < 2; i++)
		if (read(ready[0], &c, 1) != 1)
			broken("read");
	put("ready\n");
	rest();
	return 0;
}

/* forks N: so many children that wait, "made COUNT", what stopped it, and waits. */
static int cmd_forks(int argc, char **argv)
{
	int wanted = argc > 2 ? number(argv[2]) : 0;
	int made = 0;

	while (made < wanted) {
		pid_t pid = fork();

		if (pid == 0) {
			limit_life();
			rest();
		}
		if (pid < 0)
			break;
		made++;
	}
	printf("made %d, %s\n", made, made < wanted ? strerrorname_np(errno) : "all");
	fflush(stdout);
	rest();
	return 0;
}

/*
 * bomb N: every process of it forks as often as it can, all together N times,
 * failures included. One of them says "done" then, and all wait.
 */
static int cmd_bomb(int argc, char **argv)
{
	int limit = argc > 2 ? number(argv[2]) : 0;
	atomic_int *tries = mmap(NULL, sizeof *tries, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (tries == MAP_FAILED)
		broken("mmap");
	for (;;) {
		int n = atomic_fetch_add(tries, 1);

		if (n == limit)
			put("done\n");
		if (n >= limit)
			rest();
		if (fork() == 0)
			limit_life();
	}
	return 0;
}

/* Terminals. */

static void say_winsize(int sig)
{
	struct winsize w;
	char line[64];
	int len;

	(void)sig;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0)
		_exit(EXIT_BROKEN);
	len = snprintf(line, sizeof line, "size %u %u\n", w.ws_row, w.ws_col);
	put_all(STDOUT_FILENO, line, (size_t)len);
}

/* winsize: "size ROWS COLS", again at each SIGWINCH, till the end of stdin. */
static int cmd_winsize(int argc, char **argv)
{
	on_signal(SIGWINCH, say_winsize, SA_RESTART);
	say_winsize(SIGWINCH);
	return cmd_gate(argc, argv);
}

/* raw: takes the terminal to raw mode and says each byte as a number. */
static int cmd_raw(int argc, char **argv)
{
	struct termios t;
	unsigned char c;

	(void)argc;
	(void)argv;
	if (tcgetattr(STDIN_FILENO, &t) < 0)
		broken("tcgetattr");
	cfmakeraw(&t);
	if (tcsetattr(STDIN_FILENO, TCSANOW, &t) < 0)
		broken("tcsetattr");
	put("raw\n");
	while (read(STDIN_FILENO, &c, 1) == 1 && c != 'q')
		dprintf(STDOUT_FILENO, "%d\n", c);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "about", cmd_about },
	{ "allocate", cmd_allocate },
	{ "alternate", cmd_alternate },
	{ "args", cmd_args },
	{ "background", cmd_background },
	{ "bomb", cmd_bomb },
	{ "born", cmd_born },
	{ "burn", cmd_burn },
	{ "close-outputs", cmd_close_outputs },
	{ "close-stdin", cmd_close_stdin },
	{ "copy", cmd_copy },
	{ "copy-on-signal", cmd_copy_on_signal },
	{ "count", cmd_count },
	{ "die", cmd_die },
	{ "env", cmd_env },
	{ "exit", cmd_exit },
	{ "family", cmd_family },
	{ "fds", cmd_fds },
	{ "flood", cmd_flood },
	{ "forks", cmd_forks },
	{ "gate", cmd_gate },
	{ "handle", cmd_handle },
	{ "ignore", cmd_ignore },
	{ "late", cmd_late },
	{ "limits", cmd_limits },
	{ "lines", cmd_lines },
	{ "members", cmd_members },
	{ "pause", cmd_pause },
	{ "raw", cmd_raw },
	{ "relay", cmd_relay },
	{ "sip", cmd_sip },
	{ "status", cmd_status },
	{ "tty", cmd_tty },
	{ "winsize", cmd_winsize },
	{ "write", cmd_write },
};

int main(int argc, char **argv)
{
	limit_life();
	for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc, argv);
	fprintf(stderr, "usage: testprog COMMAND [ARGUMENT...]\n");
	return EXIT_USAGE;
}

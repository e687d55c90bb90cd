/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helpers/pattern.h"

extern char **environ;

/*
 * The first spawn starts the shepherd and opens what stays open; the second
 * closes what only the start needed. The mark is not set yet, so that the
 * shepherd is not taken for a program of a test.
 */
void check_warm_up(void)
{
	for (int i = 0; i < 2; i++)
		output_of(OPTIONS(.argv = PROG("exit", "0"), .err = PIPE));
}

const char *testprog(void)
{
	static char path[PATH_MAX];
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	if (!*path) {
		const char *given = getenv("NR_TESTPROG");
		ssize_t n = readlink("/proc/self/exe", path, sizeof path - 10);

		if (n < 0)
			abort();
		path[n] = '\0';
		strcpy(strrchr(path, '/') + 1, "testprog");
		if (given)
			snprintf(path, sizeof path, "%s", given);
	}
	pthread_mutex_unlock(&lock);
	return path;
}

/* Files and descriptors. */

static char scratch_root[PATH_MAX];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_scratch(void *unused)
{
	(void)unused;
	CHECK(nftw(scratch_root, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0, "%s: %s",
	      scratch_root, strerror(errno));
	*scratch_root = '\0';
}

const char *scratch(void)
{
	const char *tmp = getenv("TMPDIR");

	if (!*scratch_root) {
		char template[PATH_MAX - 64];

		snprintf(template, sizeof template, "%s/nr-test-XXXXXX", tmp ? tmp : "/tmp");
		REQUIRE(mkdtemp(template), "%s: %s", template, strerror(errno));
		/* Without symbolic links, for comparison with getcwd(). */
		REQUIRE(realpath(template, scratch_root), "%s", template);
		REQUIRE(chmod(scratch_root, 0755) == 0);
		check_defer(remove_scratch, NULL);
	}
	return scratch_root;
}

const char *scratch_path(const char *name)
{
	return check_format("%s/%s", scratch(), name);
}

const char *scratch_dir(const char *name)
{
	const char *path = scratch_path(name);

	REQUIRE(mkdir(path, 0755) == 0, "%s: %s", path, strerror(errno));
	return path;
}

static void write_all(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		REQUIRE(n > 0 || errno == EINTR, "write: %s", strerror(errno));
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
}

static const char *scratch_bytes(const char *name, const void *data, size_t len, mode_t mode)
{
	const char *path = scratch_path(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	REQUIRE(fd >= 0, "%s: %s", path, strerror(errno));
	write_all(fd, data, len);
	REQUIRE(fchmod(fd, mode) == 0);
	REQUIRE(close(fd) == 0);
	return path;
}

const char *scratch_file(const char *name, const char *text, mode_t mode)
{
	return scratch_bytes(name, text, strlen(text), mode);
}

const char *scratch_program(const char *name)
{
	struct buffer b = { 0 };

	buffer_read_file(&b, testprog());
	return scratch_bytes(name, b.data, b.len, 0755);
}

static void return_to_directory(void *arg)
{
	int *fd = arg;

	CHECK(fchdir(*fd) == 0);
	close(*fd);
}

void change_directory(const char *path)
{
	int *fd = check_alloc(sizeof *fd);

	*fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(*fd >= 0);
	check_defer(return_to_directory, fd);
	REQUIRE(chdir(path) == 0, "%s: %s", path, strerror(errno));
}

struct variable {
	const char *name;
	const char *value;
};

static void set_variable(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

static void restore_variable(void *arg)
{
	struct variable *v = arg;

	set_variable(v->name, v->value);
}

void change_environment(const char *name, const char *value)
{
	struct variable *v = check_alloc(sizeof *v);
	const char *old = getenv(name);

	v->name = name;
	v->value = old ? check_format("%s", old) : NULL;
	check_defer(restore_variable, v);
	set_variable(name, value);
}

struct redirection {
	int number;
	int saved;
};

static void undo_redirection(void *arg)
{
	struct redirection *r = arg;

	fflush(NULL);
	dup2(r->saved, r->number);
	close(r->saved);
}

void redirect(int number, int fd)
{
	struct redirection *r = check_alloc(sizeof *r);

	fflush(NULL);
	r->number = number;
	r->saved = fcntl(number, F_DUPFD_CLOEXEC, 3);
	REQUIRE(r->saved >= 0);
	check_defer(undo_redirection, r);
	REQUIRE(dup2(fd, number) == number);
}

static void close_deferred(void *arg)
{
	int *fd = arg;

	if (*fd >= 0)
		close(*fd);
}

/* The descriptors of this test, for close_now(). */
static struct {
	pthread_mutex_t lock;
	int *slots[256];
	size_t count;
} open_now = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void forget_open(void *unused)
{
	(void)unused;
	open_now.count = 0;
}

void close_later(int fd)
{
	int *slot = check_alloc(sizeof *slot);
	bool first;

	REQUIRE(fd >= 0, "%s", strerror(errno));
	*slot = fd;
	pthread_mutex_lock(&open_now.lock);
	first = open_now.count == 0;
	if (open_now.count == COUNT_OF(open_now.slots))
		abort();
	open_now.slots[open_now.count++] = slot;
	pthread_mutex_unlock(&open_now.lock);
	if (first)
		check_defer(forget_open, NULL);
	check_defer(close_deferred, slot);
}

void close_now(int fd)
{
	pthread_mutex_lock(&open_now.lock);
	for (size_t i = 0; i < open_now.count; i++)
		if (*open_now.slots[i] == fd)
			*open_now.slots[i] = -1;
	pthread_mutex_unlock(&open_now.lock);
	REQUIRE(close(fd) == 0);
}

void open_pipe(int ends[2])
{
	REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
	close_later(ends[0]);
	close_later(ends[1]);
}

int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	REQUIRE(fd >= 0, "%s: %s", path, strerror(errno));
	close_later(fd);
	return fd;
}

/* Buffers. */

void buffer_append(struct buffer *b, const void *data, size_t len)
{
	if (b->len + len + 1 > b->cap) {
		b->cap = b->cap * 2 > b->len + len + 1 ? b->cap * 2 : b->len + len + 1;
		b->data = check_grow(b->data, b->cap);
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buffer_read_fd(struct buffer *b, int fd)
{
	char *chunk = check_alloc(65536);
	ssize_t n;

	while ((n = read(fd, chunk, 65536)) > 0)
		buffer_append(b, chunk, (size_t)n);
	REQUIRE(n == 0, "read: %s", strerror(errno));
	buffer_append(b, "", 0);
}

void buffer_read_file(struct buffer *b, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	REQUIRE(fd >= 0, "%s: %s", path, strerror(errno));
	buffer_read_fd(b, fd);
	close(fd);
}

const char *value_of(const struct buffer *b, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = b->data; line && *line;) {
		const char *end = line + strcspn(line, "\r\n");

		if (strncmp(line, key, len) == 0 && line[len] == '=')
			return check_format("%.*s", (int)(end - line - (ptrdiff_t)len - 1),
					    line + len + 1);
		line = end + strspn(end, "\r\n");
	}
	REQUIRE(false, "no %s in: %s", key, b->data ? b->data : "");
	return "";
}

unsigned char *pattern(size_t len)
{
	unsigned char *bytes = check_alloc(len);

	pattern_fill(bytes, 0, len);
	return bytes;
}

const char *const *large_environment(void)
{
	enum { VARIABLES = 2000 };
	const char **env = check_alloc((VARIABLES + 2) * sizeof *env);

	env[0] = check_mark();
	for (int i = 0; i < VARIABLES; i++)
		env[i + 1] = check_format("V%d=%0200d", i, i);
	return env;
}

/* Programs. */

static void release_left(void *arg)
{
	nr_proc *p = arg;

	/* A test that did not fail must have released it itself. */
	if (check_has_failed())
		nr_release(*p);
}

nr_proc spawn(const nr_options *o)
{
	char why[256] = "unset";
	nr_proc p = nr_spawn(o, why, sizeof why);
	nr_proc *kept;

	REQUIRE(p > 0, "nr_spawn is -%s: %s", nr_errname((int)p), why);
	kept = check_alloc(sizeof *kept);
	*kept = p;
	check_defer(release_left, kept);
	REQUIRE_STR(why, "");
	return p;
}

int spawn_error(const nr_options *o, const char **why)
{
	char text[1024] = "not written";
	nr_proc p = nr_spawn(o, text, sizeof text);

	if (why)
		*why = check_format("%s", text);
	if (p > 0) {
		nr_release(p);
		return 0;
	}
	CHECK(*text && strcmp(text, "not written") != 0, "no words for -%s", nr_errname((int)p));
	CHECK(!strchr(text, '\n'), "not one line: %s", text);
	return (int)p;
}

const char *spawn_fails(const nr_options *o, int error, const char *what)
{
	const char *why = "";
	int n = spawn_error(o, &why);

	CHECK_EQ_INT(n, -error, "%s: %s", what, why);
	return why;
}

void release(nr_proc p)
{
	REQUIRE_EQ_INT(nr_release(p), 0);
}

nr_outcome wait_end(nr_proc p)
{
	nr_outcome how = { .size = sizeof how };

	REQUIRE_EQ_INT(nr_wait(p, (int)check_patience_ms(), &how), 0);
	CHECK((how.code == -1) != (how.signal == -1), "code %d, signal %d", how.code, how.signal);
	return how;
}

void check_code(const nr_outcome *how, int code, int reason)
{
	CHECK_EQ_INT(how->signal, -1);
	CHECK_EQ_INT(how->code, code);
	CHECK_EQ_INT(how->reason, reason);
	CHECK_EQ_INT(how->core, 0);
}

void check_signal(const nr_outcome *how, int sig, int reason)
{
	CHECK_EQ_INT(how->signal, sig);
	CHECK_EQ_INT(how->code, -1);
	CHECK_EQ_INT(how->reason, reason);
}

bool is_ready(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	REQUIRE(poll(&pfd, 1, 0) >= 0);
	REQUIRE(!(pfd.revents & POLLNVAL), "descriptor %d is not open", fd);
	return pfd.revents != 0;
}

void wait_ready(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	REQUIRE(fd >= 0, "no descriptor: -%s", nr_errname(fd));
	REQUIRE_EQ_INT(poll(&pfd, 1, (int)check_patience_ms()), 1);
	REQUIRE(!(pfd.revents & POLLNVAL), "descriptor %d is not open", fd);
}

/* Appends what comes next. Returns what nr_read() did, but never -EAGAIN. */
static int read_more(nr_proc p, int stream, struct buffer *b)
{
	char chunk[16384];

	for (;;) {
		ssize_t n = nr_read(p, stream, chunk, sizeof chunk);

		REQUIRE(n <= (ssize_t)sizeof chunk);
		if (n > 0)
			buffer_append(b, chunk, (size_t)n);
		if (n != -EAGAIN)
			return (int)n;
		wait_ready(nr_fd(p, stream), POLLIN);
	}
}

void read_until(nr_proc p, int stream, struct buffer *b, const char *text)
{
	const char *found;
	int n;

	while (!b->data || !(found = strstr(b->data + b->seen, text))) {
		n = read_more(p, stream, b);
		REQUIRE(n > 0, "-%s instead of \"%s\" after: %s", nr_errname(n), text,
			b->data ? b->data + b->seen : "");
	}
	b->seen = (size_t)(found - b->data) + strlen(text);
}

const char *read_line(nr_proc p, int stream, struct buffer *b)
{
	size_t start = b->seen;
	size_t len;

	read_until(p, stream, b, "\n");
	len = b->seen - start - 1;
	if (len > 0 && b->data[start + len - 1] == '\r')
		len--;
	return check_format("%.*s", (int)len, b->data + start);
}

int read_to_end(nr_proc p, int stream, struct buffer *b)
{
	int n;

	while ((n = read_more(p, stream, b)) > 0)
		continue;
	buffer_append(b, "", 0);
	return n;
}

void say(nr_proc p, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = nr_write(p, at, len);

		REQUIRE(n != 0 && n <= (ssize_t)len);
		if (n == -EAGAIN) {
			wait_ready(nr_fd(p, NR_STDIN), POLLOUT);
			continue;
		}
		REQUIRE(n > 0, "nr_write is -%s", nr_errname((int)n));
		at += n;
		len -= (size_t)n;
	}
}

void say_text(nr_proc p, const char *text)
{
	say(p, text, strlen(text));
}

/* Watching. */

const char *watcher_name(enum watcher kind)
{
	static const char *const names[WATCHERS] = { "select", "poll", "epoll, level",
						     "epoll, edge" };

	return names[kind];
}

void watch_open(struct watch *w, enum watcher kind)
{
	w->kind = kind;
	w->epoll = -1;
	for (size_t i = 0; i < COUNT_OF(w->slots); i++)
		w->slots[i] = (struct pollfd){ .fd = -1 };
	if (kind == WATCH_EPOLL || kind == WATCH_EPOLL_EDGE) {
		w->epoll = epoll_create1(EPOLL_CLOEXEC);
		REQUIRE(w->epoll >= 0);
	}
}

void watch_close(struct watch *w)
{
	if (w->epoll >= 0)
		close(w->epoll);
}

void watch_add(struct watch *w, unsigned slot, int fd, short events)
{
	/* The bits of poll and epoll are the same for these. */
	struct epoll_event e = { .events = (uint32_t)events, .data.u32 = slot };

	REQUIRE(fd >= 0 && (events == POLLIN || events == POLLOUT));
	REQUIRE(w->kind != WATCH_SELECT || fd < FD_SETSIZE);
	w->slots[slot] = (struct pollfd){ .fd = fd, .events = events };
	if (w->kind == WATCH_EPOLL_EDGE)
		e.events |= EPOLLET;
	if (w->epoll >= 0)
		REQUIRE(epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &e) == 0, "%s", strerror(errno));
}

void watch_remove(struct watch *w, unsigned slot)
{
	if (w->slots[slot].fd < 0)
		return;
	if (w->epoll >= 0)
		REQUIRE(epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->slots[slot].fd, NULL) == 0, "%s",
			strerror(errno));
	w->slots[slot].fd = -1;
}

static unsigned watch_select(struct watch *w, int timeout_ms)
{
	struct timeval tv = { timeout_ms / 1000, (timeout_ms % 1000) * 1000 };
	fd_set in, out;
	unsigned ready = 0;

	FD_ZERO(&in);
	FD_ZERO(&out);
	for (size_t i = 0; i < COUNT_OF(w->slots); i++)
		if (w->slots[i].fd >= 0)
			FD_SET(w->slots[i].fd, w->slots[i].events == POLLIN ? &in : &out);
	REQUIRE(select(FD_SETSIZE, &in, &out, NULL, &tv) >= 0, "%s", strerror(errno));
	for (size_t i = 0; i < COUNT_OF(w->slots); i++)
		if (w->slots[i].fd >= 0 &&
		    FD_ISSET(w->slots[i].fd, w->slots[i].events == POLLIN ? &in : &out))
			ready |= 1u << i;
	return ready;
}

static unsigned watch_poll(struct watch *w, int timeout_ms)
{
	unsigned ready = 0;

	REQUIRE(poll(w->slots, COUNT_OF(w->slots), timeout_ms) >= 0, "%s", strerror(errno));
	for (size_t i = 0; i < COUNT_OF(w->slots); i++)
		if (w->slots[i].fd >= 0 && w->slots[i].revents) {
			REQUIRE(!(w->slots[i].revents & POLLNVAL), "descriptor %d is not open",
				w->slots[i].fd);
			ready |= 1u << i;
		}
	return ready;
}

unsigned watch_wait(struct watch *w, int timeout_ms)
{
	struct epoll_event events[8];
	unsigned ready = 0;
	int n;

	if (w->kind == WATCH_SELECT)
		return watch_select(w, timeout_ms);
	if (w->kind == WATCH_POLL)
		return watch_poll(w, timeout_ms);
	n = epoll_wait(w->epoll, events, COUNT_OF(events), timeout_ms);
	REQUIRE(n >= 0, "%s", strerror(errno));
	for (int i = 0; i < n; i++)
		ready |= 1u << events[i].data.u32;
	return ready;
}

struct conversation {
	nr_proc p;
	const char *in;
	size_t in_len;
	struct result *r;
	char chunk[65536];
};

static void append_output(struct buffer *b, const struct conversation *c, ssize_t n)
{
	REQUIRE(n <= (ssize_t)sizeof c->chunk);
	buffer_append(b, c->chunk, (size_t)n);
}

/*
 * One call on one descriptor. Returns -EAGAIN to be called again after it got
 * ready, 1 to be called again at once, 0 if it is done with.
 */
static int advance(struct conversation *c, int stream)
{
	struct result *r = c->r;
	ssize_t n;

	switch (stream) {
	case NR_STDIN:
		if (r->written == c->in_len)
			return 0;
		n = nr_write(c->p, c->in + r->written, c->in_len - r->written);
		REQUIRE(n != 0 && n <= (ssize_t)(c->in_len - r->written));
		if (n == -EAGAIN)
			return -EAGAIN;
		if (n < 0) {
			r->in_error = (int)n;
			return 0;
		}
		r->written += (size_t)n;
		return 1;
	case NR_EXIT:
		r->status = nr_wait(c->p, 0, &r->how);
		return r->status == -EAGAIN ? -EAGAIN : 0;
	default:
		n = nr_read(c->p, stream, c->chunk, sizeof c->chunk);
		if (n == -EAGAIN)
			return -EAGAIN;
		if (n > 0) {
			append_output(stream == NR_STDOUT ? &r->out : &r->err, c, n);
			return 1;
		}
		*(stream == NR_STDOUT ? &r->out_end : &r->err_end) = (int)n;
		return 0;
	}
}

struct result *converse(nr_proc p, enum watcher kind, const void *in, size_t len)
{
	struct conversation *c = check_alloc(sizeof *c);
	struct result *r = check_alloc(sizeof *r);
	struct watch w;
	unsigned open = 0;
	unsigned ready;

	*c = (struct conversation){ .p = p, .in = in, .in_len = len, .r = r };
	r->how.size = sizeof r->how;
	r->out_end = r->err_end = 1;
	buffer_append(&r->out, "", 0);
	buffer_append(&r->err, "", 0);
	watch_open(&w, kind);
	for (int stream = NR_STDIN; stream <= NR_EXIT; stream++) {
		int fd = nr_fd(p, stream);

		if (fd == -EINVAL && stream != NR_EXIT)
			continue;
		REQUIRE(fd >= 0, "nr_fd of %d is -%s", stream, nr_errname(fd));
		watch_add(&w, (unsigned)stream, fd, stream == NR_STDIN ? POLLOUT : POLLIN);
		open |= 1u << stream;
	}
	for (ready = open; open; ready &= open) {
		if (!ready) {
			ready = watch_wait(&w, (int)check_patience_ms());
			REQUIRE(ready, "nothing happens any more; open: %#x", open);
		}
		for (int stream = NR_STDIN; stream <= NR_EXIT; stream++) {
			int n;

			if (!(ready & (1u << stream)))
				continue;
			n = advance(c, stream);
			if (n > 0)
				continue;
			ready &= ~(1u << stream);
			if (n == -EAGAIN)
				continue;
			open &= ~(1u << stream);
			watch_remove(&w, (unsigned)stream);
			if (stream == NR_STDIN)
				REQUIRE_EQ_INT(nr_close_stdin(p), 0);
		}
	}
	watch_close(&w);
	return r;
}

struct result *run_with(const nr_options *o, const void *in, size_t len)
{
	nr_proc p = spawn(o);
	struct result *r = converse(p, WATCH_POLL, in, len);

	release(p);
	return r;
}

struct result *run(const nr_options *o)
{
	return run_with(o, NULL, 0);
}

const struct buffer *output_of(const nr_options *o)
{
	struct result *r = run(o);

	REQUIRE_EQ_INT(r->status, 0);
	CHECK_EQ_INT(r->out_end, 0);
	REQUIRE(r->how.code == 0, "code %d, signal %d, stderr: %s", r->how.code, r->how.signal,
		r->err.data);
	return &r->out;
}

bool is_alive(pid_t pid)
{
	return proc_has_mark(pid, check_mark());
}

size_t count_alive(void)
{
	return proc_marked(check_mark(), false, NULL, 0);
}

pid_t shepherd_of(nr_proc p)
{
	pid_t pid = nr_pid(p);

	REQUIRE(pid > 0);
	/* Not itself: for an instant after the exec it still looks like one. */
	do
		pid = proc_parent(pid);
	while (pid > 0 && !proc_is_shepherd(pid));
	REQUIRE(pid > 0, "no netrunner-shepherd above %d", nr_pid(p));
	return pid;
}

/* Hosts. */

static void end_host(void *arg)
{
	struct host *h = arg;

	if (h->pid > 0) {
		kill(h->pid, SIGKILL);
		waitpid(h->pid, NULL, 0);
	}
	if (h->in >= 0)
		close(h->in);
	close(h->out);
}

struct host *host_start(const char *const *argv)
{
	struct host *h = check_alloc(sizeof *h);
	posix_spawn_file_actions_t actions;
	char *args[24] = { "host", "--host" };
	int in[2], out[2];

	for (size_t i = 0; argv[i]; i++) {
		REQUIRE(i + 3 < COUNT_OF(args));
		args[i + 2] = (char *)argv[i];
	}
	REQUIRE(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	if (posix_spawn(&h->pid, "/proc/self/exe", &actions, NULL, args, environ) != 0)
		h->pid = 0;
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	h->in = in[1];
	h->out = out[0];
	check_defer(end_host, h);
	REQUIRE(h->pid > 0);
	return h;
}

const char *host_line(struct host *h)
{
	size_t start = h->text.seen;
	char chunk[4096];
	char *newline;
	ssize_t n;

	while (!h->text.data || !(newline = strchr(h->text.data + start, '\n'))) {
		wait_ready(h->out, POLLIN);
		n = read(h->out, chunk, sizeof chunk);
		REQUIRE(n >= 0);
		if (n == 0)
			return "";
		buffer_append(&h->text, chunk, (size_t)n);
	}
	h->text.seen = (size_t)(newline - h->text.data) + 1;
	return check_format("%.*s", (int)(h->text.seen - start - 1), h->text.data + start);
}

static int host_reap(struct host *h)
{
	int64_t until = check_now_ms() + check_patience_ms() * 2;
	int status = 0;
	pid_t pid;

	while ((pid = waitpid(h->pid, &status, WNOHANG)) == 0)
		REQUIRE(check_nap(until), "the host does not end");
	REQUIRE_EQ_INT(pid, h->pid);
	h->pid = 0;
	return status;
}

int host_end(struct host *h)
{
	close(h->in);
	h->in = -1;
	return host_reap(h);
}

void host_kill(struct host *h)
{
	REQUIRE(kill(h->pid, SIGKILL) == 0);
	CHECK_EQ_INT(host_reap(h), SIGKILL);
}

void host_run(const char *const *argv)
{
	struct host *h = host_start(argv);
	int status = host_end(h);

	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "host %s: wait status %#x", argv[0],
	      (unsigned)status);
}

void tell(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vdprintf(STDOUT_FILENO, format, args);
	va_end(args);
	dprintf(STDOUT_FILENO, "\n");
}

void wait_for_test(void)
{
	char c;

	while (read(STDIN_FILENO, &c, 1) != 0)
		continue;
}

/* Threads. */

struct thread {
	pthread_t id;
};

thread *thread_start(void *(*run)(void *arg), void *arg)
{
	thread *t = check_alloc(sizeof *t);

	REQUIRE_EQ_INT(pthread_create(&t->id, NULL, run, arg), 0);
	return t;
}

void *thread_join(thread *t)
{
	void *value;

	REQUIRE_EQ_INT(pthread_join(t->id, &value), 0);
	return value;
}

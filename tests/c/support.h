/* SPDX-License-Identifier: Apache-2.0 */

/*
 * support.h - what the tests of several areas share: starting programs,
 * talking to them in an event loop, and starting host processes.
 *
 * Everything here is fatal to the test when it fails, so tests check only what
 * they are about.
 */

#ifndef SUPPORT_H
#define SUPPORT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "check.h"
#include "netrunner.h"

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define SH(script) ARGV("/bin/sh", "-c", script)
/* Our own program of many behaviours, see helpers/testprog.c. */
#define PROG(...) ARGV(testprog(), __VA_ARGS__)
/* An exact environment, but for the mark. */
#define ENV(...) ((const char *const[]){ check_mark(), __VA_ARGS__, NULL })
#define OPTIONS(...) (&(nr_options){ .size = sizeof(nr_options), __VA_ARGS__ })

#define PIPE ((nr_stdio){ .mode = NR_STDIO_PIPE })
#define DEV_NULL ((nr_stdio){ .mode = NR_STDIO_NULL })
#define INHERIT ((nr_stdio){ .mode = NR_STDIO_INHERIT })
#define TO_STDOUT ((nr_stdio){ .mode = NR_STDIO_STDOUT })
#define USE_FD(number) ((nr_stdio){ .mode = NR_STDIO_FD, .fd = (number) })

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

const char *testprog(void);

/* A directory that is removed after the test, and paths below it. */
const char *scratch(void);
const char *scratch_path(const char *name);
const char *scratch_dir(const char *name);
const char *scratch_file(const char *name, const char *text, mode_t mode);
/* A copy of testprog under another name. */
const char *scratch_program(const char *name);

/* chdir() until the end of the test. */
void change_directory(const char *path);

/* setenv() until the end of the test; value NULL is unsetenv(). */
void change_environment(const char *name, const char *value);

/* Makes descriptor number refer to what fd does until the end of the test. */
void redirect(int number, int fd);

/* Close-on-exec descriptors that are closed after the test. */
void open_pipe(int ends[2]);
int open_file(const char *path, int flags);
void close_later(int fd);
/* Closes one of them before that. */
void close_now(int fd);

/* Bytes read so far. They always end with a NUL that is not counted. */
struct buffer {
	char *data;
	size_t len;
	size_t cap;
	size_t seen; /* where read_until() goes on */
};

void buffer_append(struct buffer *b, const void *data, size_t len);
/* Reads a descriptor to its end. */
void buffer_read_fd(struct buffer *b, int fd);
void buffer_read_file(struct buffer *b, const char *path);
/* The value in a line "KEY=value". */
const char *value_of(const struct buffer *b, const char *key);

/* So many bytes of the pattern that testprog writes and checks. */
unsigned char *pattern(size_t len);

/* Much for Go to copy, so that it soon collects garbage. */
const char *const *large_environment(void);

/* nr_spawn() that must succeed. What a failed test did not release, it does. */
nr_proc spawn(const nr_options *o);
/* nr_spawn() that should fail. Returns the negative error, or 0. */
int spawn_error(const nr_options *o, const char **why);
/* The same with this (positive) error. Returns why. what is for the report. */
const char *spawn_fails(const nr_options *o, int error, const char *what);
/* nr_release() that must succeed. */
void release(nr_proc p);
/* nr_wait() for the end, which must come. */
nr_outcome wait_end(nr_proc p);
void check_code(const nr_outcome *how, int code, int reason);
void check_signal(const nr_outcome *how, int sig, int reason);

/* Waits until the stream has brought the text, and skips it. */
void read_until(nr_proc p, int stream, struct buffer *b, const char *text);
/* Reads the next line, without its end. */
const char *read_line(nr_proc p, int stream, struct buffer *b);
/* Reads to the end, and returns the last result of nr_read(). */
int read_to_end(nr_proc p, int stream, struct buffer *b);
/* Writes all. */
void say(nr_proc p, const void *data, size_t len);
void say_text(nr_proc p, const char *text);
/* Waits for a descriptor to get ready for POLLIN or POLLOUT. */
void wait_ready(int fd, short events);
bool is_ready(int fd, short events);

/* One loop over up to eight descriptors, with each way to watch them. */
enum watcher { WATCH_SELECT, WATCH_POLL, WATCH_EPOLL, WATCH_EPOLL_EDGE };
#define WATCHERS 4

const char *watcher_name(enum watcher kind);

struct watch {
	enum watcher kind;
	int epoll;
	struct pollfd slots[8];
};

void watch_open(struct watch *w, enum watcher kind);
void watch_close(struct watch *w);
void watch_add(struct watch *w, unsigned slot, int fd, short events);
void watch_remove(struct watch *w, unsigned slot);
/* Returns a bit for each slot that is ready, 0 after timeout_ms. */
unsigned watch_wait(struct watch *w, int timeout_ms);

/* What came of a program that was run to its end. */
struct result {
	struct buffer out;
	struct buffer err;
	size_t written; /* bytes that stdin took */
	int in_error;   /* why it did not take all, or 0 */
	int out_end;    /* last result of nr_read(); 1 if not connected */
	int err_end;
	int status; /* of nr_wait() */
	nr_outcome how;
};

/*
 * converse is the loop of the header's EVENT LOOPS, with its rules: feeds
 * stdin and closes it, drains both outputs, waits for the end.
 */
struct result *converse(nr_proc p, enum watcher kind, const void *in, size_t len);

/* spawn, converse, release. */
struct result *run(const nr_options *o);
struct result *run_with(const nr_options *o, const void *in, size_t len);
/* run() that must exit with 0; returns its output. */
const struct buffer *output_of(const nr_options *o);

/* Whether this process, which must be of the running test, lives. */
bool is_alive(pid_t pid);
/* The programs of this test that live. */
size_t count_alive(void);

/* The shepherd that holds a running program. */
pid_t shepherd_of(nr_proc p);

/* A second process that uses the library: see HOST in check.h. */
struct host {
	pid_t pid;
	int in;
	int out;
	struct buffer text;
};

struct host *host_start(const char *const *argv);
/* The next line that it writes to its stdout; "" at the end. */
const char *host_line(struct host *h);
/* Closes its stdin, waits for its end, and returns its wait status. */
int host_end(struct host *h);
/* Kills it by SIGKILL and reaps it. */
void host_kill(struct host *h);
/* Runs it to its end, which must be a success. */
void host_run(const char *const *argv);

/* For hosts: writes a line to the test. */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For hosts: waits until the test closes its stdin. */
void wait_for_test(void);

/* pthread_create() and pthread_join() that must succeed. */
typedef struct thread thread;
thread *thread_start(void *(*run)(void *arg), void *arg);
void *thread_join(thread *t);

#endif /* SUPPORT_H */

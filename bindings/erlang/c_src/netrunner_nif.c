/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The NIF of netrunner: libnetrunner's calls as Erlang functions, and its
 * descriptors in the scheduler's poll set.
 *
 * A program is a resource. Reads, writes and waits never block: what is not
 * ready is selected for, once, and the caller told by {select, Program, Ref, _}.
 * What may take long (the first spawn, cgroup files, user databases) runs on dirty
 * schedulers.
 *
 * The descriptors belong to libnetrunner, and must not be closed while the poll
 * set knows them. So each stream that has ever been selected is first stopped
 * (ERL_NIF_SELECT_STOP), and closed in the stop callback; the program itself is
 * released in the last of these. A terminal's stdin is the exception: its close
 * can be refused, and is then tried again. A duplicate of it is watched.
 *
 * The lock of a program is held over each call together with the select that
 * follows it: no close can come in between, and make the descriptor's number
 * somebody else's.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <erl_nif.h>
#include <netrunner.h>

/* The most that one call reads or writes: some 100 us of a scheduler's time. */
#define MAX_READ (256 * 1024)
#define MAX_WRITE (256 * 1024)
#define MAX_VECTORS 128

/*
 * A program that has filled its pipe is faster than we are: it gets a larger one,
 * and both have to be woken less often. There is a limit to how much a user may
 * have in pipes (64 MiB); half of that is for others.
 */
#define FULL_PIPE (60 * 1024)
#define LARGE_PIPE (1024 * 1024)
#define MAX_LARGE_PIPES 32

#define STREAMS 4 /* NR_STDIN, NR_STDOUT, NR_STDERR, NR_EXIT */

struct stream {
	int fd;         /* valid while watched */
	bool watched;   /* the poll set knows it: stop before closing */
	bool stopping;  /* the stop callback will come */
	bool duplicate; /* fd is ours, not the library's */
	bool closed;    /* or will be, as soon as it has been stopped */
	bool large;     /* a pipe that counts in large_pipes */
};

struct program {
	nr_proc proc;
	ErlNifMutex *lock;
	bool released;
	bool terminal;
	bool kill_on_down; /* the owner's death is SIGKILL, not a stop */
	bool owned;
	ErlNifMonitor owner;
	struct stream streams[STREAMS];
	ErlNifBinary collected; /* by collect(), not yet taken */
	size_t used;            /* of it */
};

static ErlNifResourceType *program_type;
static atomic_int large_pipes;
static atomic_bool shepherd_runs;

/* clang-format off */
#define ATOMS(X)                                                                                   \
	X(ok) X(error) X(eof) X(select) X(again) X(more) X(full) X(exit) X(undefined)                      \
	X(stdin) X(stdout) X(stderr) X(null) X(pipe) X(inherit) X(fd)                              \
	X(argv) X(file) X(env) X(cd) X(fds) X(pipe_size) X(rows) X(cols) X(umask) X(timeout)       \
	X(kill_timeout) X(output_limit) X(uid) X(gid) X(groups) X(rlimits) X(cgroup_base)          \
	X(cgroup_path) X(cgroup_set) X(nice) X(shepherd) X(flags) X(infinity)                      \
	X(pty) X(pty_noecho) X(session) X(linger) X(own_shepherd) X(pid_namespace)                 \
	X(no_new_privs) X(kill_on_down)                                                            \
	X(own) X(killed) X(output) X(oom)                                                          \
	X(stdin_bytes) X(stdout_bytes) X(stderr_bytes) X(writes) X(reads) X(wall_ns) X(user_ns)    \
	X(system_ns) X(memory) X(memory_peak) X(processes) X(minor_faults) X(major_faults)         \
	X(blocks_in) X(blocks_out) X(voluntary_switches) X(involuntary_switches)
/* clang-format on */

#define DECLARE(name) static ERL_NIF_TERM atom_##name;
ATOMS(DECLARE)
#undef DECLARE

static void make_atoms(ErlNifEnv *env)
{
#define MAKE(name) atom_##name = enif_make_atom(env, #name);
	ATOMS(MAKE)
#undef MAKE
}

/* Results */

/* posix turns -ENOENT into enoent. */
static ERL_NIF_TERM posix(ErlNifEnv *env, int error)
{
	char name[32];
	size_t i;
	const char *upper = nr_errname(error);

	for (i = 0; upper[i] && i < sizeof name - 1; i++)
		name[i] = (char)(upper[i] >= 'A' && upper[i] <= 'Z' ? upper[i] + 32 : upper[i]);
	return enif_make_atom_len(env, name, i);
}

static ERL_NIF_TERM failure(ErlNifEnv *env, int error)
{
	return enif_make_tuple2(env, atom_error, posix(env, error));
}

static ERL_NIF_TERM done(ErlNifEnv *env, int result)
{
	return result < 0 ? failure(env, result) : atom_ok;
}

static ERL_NIF_TERM text(ErlNifEnv *env, const char *s)
{
	ERL_NIF_TERM term;
	size_t len = strlen(s);

	memcpy(enif_make_new_binary(env, len, &term), s, len);
	return term;
}

/* A time slice is about 1 ms. */
static void report_time(ErlNifEnv *env, ErlNifTime start)
{
	ErlNifTime percent = 1 + (enif_monotonic_time(ERL_NIF_USEC) - start) / 10;

	enif_consume_timeslice(env, percent > 100 ? 100 : (int)percent);
}

/* Large pipes */

static void shrink(struct stream *s)
{
	if (s->large)
		atomic_fetch_sub(&large_pipes, 1);
	s->large = false;
}

static void enlarge(struct program *p, int stream)
{
	struct stream *s = &p->streams[stream];
	int fd;

	if (s->large || p->terminal)
		return;
	if (atomic_fetch_add(&large_pipes, 1) < MAX_LARGE_PIPES) {
		/* It may have been made larger than that: pipe_size. */
		fd = nr_fd(p->proc, stream);
		if (fd >= 0 && fcntl(fd, F_GETPIPE_SZ) < LARGE_PIPE &&
		    fcntl(fd, F_SETPIPE_SZ, LARGE_PIPE) >= 0) {
			s->large = true;
			return;
		}
	}
	atomic_fetch_sub(&large_pipes, 1);
}

/* The life of a program */

static bool watched(const struct program *p)
{
	for (int i = 0; i < STREAMS; i++)
		if (p->streams[i].watched)
			return true;
	return false;
}

/* The stop callback, here or soon, closes what is to be closed. */
static void unwatch(ErlNifEnv *env, struct program *p, struct stream *s)
{
	if (!s->watched || s->stopping)
		return;
	s->stopping = true;
	enif_select(env, s->fd, ERL_NIF_SELECT_STOP, p, NULL, atom_undefined);
}

/*
 * release is called with the lock held. The library is told to stop the program
 * now, and what is watched is let go of; then the program is released: here, or
 * in the last stop callback if a poll thread is busy with one.
 */
static void release(ErlNifEnv *env, struct program *p)
{
	if (p->released)
		return;
	p->released = true;
	for (int i = 0; i < STREAMS; i++)
		shrink(&p->streams[i]);
	if (!watched(p)) {
		nr_release(p->proc);
		return;
	}
	nr_stop(p->proc);
	for (int i = 0; i < STREAMS; i++)
		unwatch(env, p, &p->streams[i]);
}

static void program_stop(ErlNifEnv *env, void *object, ErlNifEvent event, int is_direct_call)
{
	struct program *p = object;

	(void)env;
	/* A direct call comes from an enif_select() of ours: the lock is held. */
	if (!is_direct_call)
		enif_mutex_lock(p->lock);
	for (int i = 0; i < STREAMS; i++) {
		struct stream *s = &p->streams[i];
		if (!s->watched || s->fd != event)
			continue;
		s->watched = false;
		s->stopping = false;
		if (s->duplicate)
			close(s->fd);
		else if (s->closed)
			nr_close(p->proc, i);
		s->duplicate = false;
	}
	if (p->released && !watched(p))
		nr_release(p->proc);
	if (!is_direct_call)
		enif_mutex_unlock(p->lock);
}

static void program_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
	struct program *p = object;

	(void)pid;
	enif_mutex_lock(p->lock);
	/* Not that of an owner who has just handed it on. */
	if (p->owned && enif_compare_monitors(&p->owner, monitor) == 0) {
		p->owned = false;
		if (p->kill_on_down && !p->released)
			nr_kill(p->proc, SIGKILL);
		release(env, p);
	}
	enif_mutex_unlock(p->lock);
}

/* What is watched holds a reference: here nothing is. */
static void program_dtor(ErlNifEnv *env, void *object)
{
	struct program *p = object;

	if (p->proc > 0)
		release(env, p);
	if (p->collected.data)
		enif_release_binary(&p->collected);
	if (p->lock)
		enif_mutex_destroy(p->lock);
}

static ErlNifResourceTypeInit program_callbacks = {
	.dtor = program_dtor,
	.stop = program_stop,
	.down = program_down,
};

/*
 * enter locks the program of a call. Afterwards p->released can't change.
 */
static bool enter(ErlNifEnv *env, ERL_NIF_TERM term, struct program **p)
{
	if (!enif_get_resource(env, term, program_type, (void **)p))
		return false;
	enif_mutex_lock((*p)->lock);
	return true;
}

static ERL_NIF_TERM leave(struct program *p, ERL_NIF_TERM result)
{
	enif_mutex_unlock(p->lock);
	return result;
}

/*
 * watch selects for a stream on behalf of the calling process, once, and
 * returns its reference in *ref, or a negative errno.
 */
static int watch(ErlNifEnv *env, struct program *p, int stream, ERL_NIF_TERM *ref)
{
	struct stream *s = &p->streams[stream];
	int mode = stream == NR_STDIN ? ERL_NIF_SELECT_WRITE : ERL_NIF_SELECT_READ;
	bool duplicate = p->terminal && stream == NR_STDIN;
	int fd = s->fd;

	if (s->closed)
		return -EPIPE;
	if (s->stopping)
		return -EBUSY; /* unselect() has not been waited for */
	if (!s->watched) {
		fd = nr_fd(p->proc, stream);
		if (fd >= 0 && duplicate && (fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
			fd = -errno;
		if (fd < 0)
			return fd;
	}
	*ref = enif_make_ref(env);
	if (enif_select(env, fd, (enum ErlNifSelectFlags)mode, p, NULL, *ref) < 0) {
		if (!s->watched && duplicate)
			close(fd);
		return -EIO;
	}
	s->fd = fd;
	s->watched = true;
	s->duplicate = duplicate;
	return 0;
}

/* Arguments */

static bool get_stream(ERL_NIF_TERM term, int *stream)
{
	if (enif_is_identical(term, atom_stdin))
		*stream = NR_STDIN;
	else if (enif_is_identical(term, atom_stdout))
		*stream = NR_STDOUT;
	else if (enif_is_identical(term, atom_stderr))
		*stream = NR_STDERR;
	else
		return false;
	return true;
}

/*
 * get_string copies a binary without NULs into memory that lives as long as the
 * call's environment.
 */
static bool get_string(ErlNifEnv *env, ERL_NIF_TERM term, const char **string)
{
	ErlNifBinary bin;
	ERL_NIF_TERM copy;
	unsigned char *at;

	if (!enif_inspect_binary(env, term, &bin) || memchr(bin.data, 0, bin.size))
		return false;
	at = enif_make_new_binary(env, bin.size + 1, &copy);
	if (!at)
		return false;
	memcpy(at, bin.data, bin.size);
	at[bin.size] = 0;
	*string = (const char *)at;
	return true;
}

/* get_memory returns zeroed memory that lives as long as the call's environment. */
static void *get_memory(ErlNifEnv *env, size_t size)
{
	ERL_NIF_TERM term;
	/* Binaries are aligned for any type if they are not on the heap. */
	void *at = enif_make_new_binary(env, size < 128 ? 128 : size, &term);

	if (at)
		memset(at, 0, size);
	return at;
}

static bool get_strings(ErlNifEnv *env, ERL_NIF_TERM list, const char *const **strings)
{
	unsigned length;
	ERL_NIF_TERM head;
	const char **all;

	if (!enif_get_list_length(env, list, &length))
		return false;
	all = get_memory(env, ((size_t)length + 1) * sizeof *all);
	if (!all)
		return false;
	for (unsigned i = 0; i < length; i++)
		if (!enif_get_list_cell(env, list, &head, &list) || !get_string(env, head, &all[i]))
			return false;
	*strings = all;
	return true;
}

static bool get_uint32(ErlNifEnv *env, ERL_NIF_TERM term, uint32_t *number)
{
	ErlNifUInt64 value;

	if (!enif_get_uint64(env, term, &value) || value > UINT32_MAX)
		return false;
	*number = (uint32_t)value;
	return true;
}

static bool get_uint16(ErlNifEnv *env, ERL_NIF_TERM term, uint16_t *number)
{
	unsigned value;

	if (!enif_get_uint(env, term, &value) || value > UINT16_MAX)
		return false;
	*number = (uint16_t)value;
	return true;
}

static bool get_int64(ErlNifEnv *env, ERL_NIF_TERM term, int64_t *number)
{
	ErlNifSInt64 value;

	if (!enif_get_int64(env, term, &value))
		return false;
	*number = value;
	return true;
}

static bool get_uint64(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t *number)
{
	ErlNifUInt64 value;

	if (!enif_get_uint64(env, term, &value))
		return false;
	*number = value;
	return true;
}

/* pipe | null | inherit | stdout | {fd, N} */
static bool get_stdio(ErlNifEnv *env, ERL_NIF_TERM term, nr_stdio *io)
{
	const ERL_NIF_TERM *pair;
	int arity;

	if (enif_is_identical(term, atom_pipe))
		io->mode = NR_STDIO_PIPE;
	else if (enif_is_identical(term, atom_null))
		io->mode = NR_STDIO_NULL;
	else if (enif_is_identical(term, atom_inherit))
		io->mode = NR_STDIO_INHERIT;
	else if (enif_is_identical(term, atom_stdout))
		io->mode = NR_STDIO_STDOUT;
	else if (enif_is_identical(term, atom_undefined))
		io->mode = NR_STDIO_AUTO;
	else if (enif_get_tuple(env, term, &arity, &pair) && arity == 2 &&
		 enif_is_identical(pair[0], atom_fd) && enif_get_int(env, pair[1], &io->fd))
		io->mode = NR_STDIO_FD;
	else
		return false;
	return true;
}

static bool get_fds(ErlNifEnv *env, ERL_NIF_TERM list, nr_options *o)
{
	unsigned length;
	ERL_NIF_TERM head;
	const ERL_NIF_TERM *pair;
	int arity;
	nr_fdmap *all;

	if (!enif_get_list_length(env, list, &length) ||
	    !(all = get_memory(env, length * sizeof *all)))
		return false;
	for (unsigned i = 0; i < length; i++)
		if (!enif_get_list_cell(env, list, &head, &list) ||
		    !enif_get_tuple(env, head, &arity, &pair) || arity != 2 ||
		    !enif_get_int(env, pair[0], &all[i].fd) ||
		    !enif_get_int(env, pair[1], &all[i].target))
			return false;
	o->fds = all;
	o->nfds = length;
	return true;
}

static bool get_groups(ErlNifEnv *env, ERL_NIF_TERM list, nr_options *o)
{
	unsigned length;
	ERL_NIF_TERM head;
	uint32_t *all;

	if (!enif_get_list_length(env, list, &length) ||
	    !(all = get_memory(env, length * sizeof *all)))
		return false;
	for (unsigned i = 0; i < length; i++)
		if (!enif_get_list_cell(env, list, &head, &list) || !get_uint32(env, head, &all[i]))
			return false;
	o->groups = all;
	o->ngroups = length;
	o->flags |= NR_SET_GROUPS;
	return true;
}

static const struct {
	const char *name;
	int number;
} resources[] = {
	{ "as", RLIMIT_AS },
	{ "core", RLIMIT_CORE },
	{ "cpu", RLIMIT_CPU },
	{ "data", RLIMIT_DATA },
	{ "fsize", RLIMIT_FSIZE },
	{ "locks", RLIMIT_LOCKS },
	{ "memlock", RLIMIT_MEMLOCK },
	{ "msgqueue", RLIMIT_MSGQUEUE },
	{ "nice", RLIMIT_NICE },
	{ "nofile", RLIMIT_NOFILE },
	{ "nproc", RLIMIT_NPROC },
	{ "rss", RLIMIT_RSS },
	{ "rtprio", RLIMIT_RTPRIO },
	{ "rttime", RLIMIT_RTTIME },
	{ "sigpending", RLIMIT_SIGPENDING },
	{ "stack", RLIMIT_STACK },
};

static bool get_limit(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t *limit)
{
	if (enif_is_identical(term, atom_infinity)) {
		*limit = UINT64_MAX;
		return true;
	}
	return get_uint64(env, term, limit);
}

/* [{Resource, Soft, Hard}] */
static bool get_rlimits(ErlNifEnv *env, ERL_NIF_TERM list, nr_options *o)
{
	unsigned length;
	ERL_NIF_TERM head;
	const ERL_NIF_TERM *tuple;
	int arity;
	char name[16];
	nr_rlimit *all;

	if (!enif_get_list_length(env, list, &length) ||
	    !(all = get_memory(env, length * sizeof *all)))
		return false;
	for (unsigned i = 0; i < length; i++) {
		size_t r = 0;
		if (!enif_get_list_cell(env, list, &head, &list) ||
		    !enif_get_tuple(env, head, &arity, &tuple) || arity != 3 ||
		    !enif_get_atom(env, tuple[0], name, sizeof name, ERL_NIF_LATIN1) ||
		    !get_limit(env, tuple[1], &all[i].soft) ||
		    !get_limit(env, tuple[2], &all[i].hard))
			return false;
		while (r < sizeof resources / sizeof *resources && strcmp(resources[r].name, name))
			r++;
		if (r == sizeof resources / sizeof *resources)
			return false;
		all[i].resource = resources[r].number;
	}
	o->rlimits = all;
	o->nrlimits = length;
	return true;
}

static bool get_flags(ErlNifEnv *env, ERL_NIF_TERM list, nr_options *o)
{
	const struct {
		ERL_NIF_TERM name;
		uint64_t flag;
	} flags[] = {
		{ atom_pty, NR_PTY },
		{ atom_pty_noecho, NR_PTY_NOECHO },
		{ atom_session, NR_SESSION },
		{ atom_linger, NR_LINGER },
		{ atom_own_shepherd, NR_OWN_SHEPHERD },
		{ atom_pid_namespace, NR_PID_NAMESPACE },
		{ atom_no_new_privs, NR_NO_NEW_PRIVS },
	};
	ERL_NIF_TERM head;

	while (enif_get_list_cell(env, list, &head, &list)) {
		size_t i = 0;
		while (i < sizeof flags / sizeof *flags && !enif_is_identical(flags[i].name, head))
			i++;
		if (i == sizeof flags / sizeof *flags)
			return false;
		o->flags |= flags[i].flag;
	}
	return enif_is_empty_list(env, list);
}

/* get_options reads a map; a key that is not in it has its default. */
static bool get_options(ErlNifEnv *env, ERL_NIF_TERM map, nr_options *o)
{
	ERL_NIF_TERM v;
	int nice;

#define GIVEN(name) enif_get_map_value(env, map, atom_##name, &v)
	o->size = sizeof *o;
	o->flags = NR_ASYNC;
	if (!enif_is_map(env, map) || !GIVEN(argv) || !get_strings(env, v, &o->argv))
		return false;
	if (GIVEN(flags) && !get_flags(env, v, o))
		return false;
	if (GIVEN(file) && !get_string(env, v, &o->file))
		return false;
	if (GIVEN(env) && !get_strings(env, v, &o->env))
		return false;
	if (GIVEN(cd) && !get_string(env, v, &o->cwd))
		return false;
	if (GIVEN(stdin) && !get_stdio(env, v, &o->in))
		return false;
	if (GIVEN(stdout) && !get_stdio(env, v, &o->out))
		return false;
	if (GIVEN(stderr) && !get_stdio(env, v, &o->err))
		return false;
	if (GIVEN(fds) && !get_fds(env, v, o))
		return false;
	if (GIVEN(pipe_size) && !get_uint32(env, v, &o->pipe_size))
		return false;
	if (GIVEN(rows) && !get_uint16(env, v, &o->rows))
		return false;
	if (GIVEN(cols) && !get_uint16(env, v, &o->cols))
		return false;
	if (GIVEN(timeout) && !get_int64(env, v, &o->timeout_ms))
		return false;
	if (GIVEN(kill_timeout) && !get_int64(env, v, &o->kill_timeout_ms))
		return false;
	if (GIVEN(output_limit) && !get_uint64(env, v, &o->output_limit))
		return false;
	if (GIVEN(rlimits) && !get_rlimits(env, v, o))
		return false;
	if (GIVEN(groups) && !get_groups(env, v, o))
		return false;
	if (GIVEN(cgroup_base) && !get_string(env, v, &o->cgroup_base))
		return false;
	if (GIVEN(cgroup_path) && !get_string(env, v, &o->cgroup_path))
		return false;
	if (GIVEN(cgroup_set) && !get_strings(env, v, &o->cgroup_set))
		return false;
	if (GIVEN(shepherd) && !get_string(env, v, &o->shepherd))
		return false;
	if (GIVEN(uid)) {
		if (!get_uint32(env, v, &o->uid))
			return false;
		o->flags |= NR_SET_UID;
	}
	if (GIVEN(gid)) {
		if (!get_uint32(env, v, &o->gid))
			return false;
		o->flags |= NR_SET_GID;
	}
	if (GIVEN(umask)) {
		if (!get_uint32(env, v, &o->umask))
			return false;
		o->flags |= NR_SET_UMASK;
	}
	if (GIVEN(nice)) {
		if (!enif_get_int(env, v, &nice))
			return false;
		o->nice = nice;
		o->flags |= NR_SET_NICE;
	}
#undef GIVEN
	return true;
}

/* Functions */

/*
 * spawn_program(Options, Owner) -> {ok, Program} | {error, {Posix, Why}}
 *
 * NR_ASYNC, so that it takes less than 100 us. But when a shepherd is to be started
 * first it takes some milliseconds, on a dirty scheduler. All other programs are
 * started faster without the two switches between schedulers.
 */
static ERL_NIF_TERM spawn_program(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	nr_options o = { 0 };
	char why[512] = "";
	struct program *p;
	ErlNifPid owner;
	ERL_NIF_TERM term;

	if (!get_options(env, argv[0], &o) || !enif_get_local_pid(env, argv[1], &owner))
		return enif_make_badarg(env);
	if (enif_thread_type() == ERL_NIF_THR_NORMAL_SCHEDULER &&
	    (!atomic_load(&shepherd_runs) || o.flags & NR_OWN_SHEPHERD || o.shepherd))
		return enif_schedule_nif(env, "spawn_program", ERL_NIF_DIRTY_JOB_IO_BOUND,
					 spawn_program, argc, argv);
	p = enif_alloc_resource(program_type, sizeof *p);
	memset(p, 0, sizeof *p);
	p->lock = enif_mutex_create("netrunner_program");
	p->terminal = (o.flags & NR_PTY) && o.in.mode == NR_STDIO_AUTO;
	p->kill_on_down = enif_get_map_value(env, argv[0], atom_kill_on_down, &term);
	if (!p->lock) {
		p->proc = -ENOMEM;
	} else {
		p->proc = nr_spawn(&o, why, sizeof why);
	}
	if (p->proc < 0) {
		if (!why[0])
			strncpy(why, nr_strerror((int)p->proc), sizeof why - 1);
		term = enif_make_tuple2(
			env, atom_error,
			enif_make_tuple2(env, posix(env, (int)p->proc), text(env, why)));
		enif_release_resource(p);
		return term;
	}
	atomic_store(&shepherd_runs, true);
	enif_consume_timeslice(env, 10);
	enif_mutex_lock(p->lock);
	if (enif_monitor_process(env, p, &owner, &p->owner) == 0)
		p->owned = true;
	else
		release(env, p); /* the owner has died meanwhile */
	enif_mutex_unlock(p->lock);
	term = enif_make_resource(env, p);
	enif_release_resource(p);
	return enif_make_tuple2(env, atom_ok, term);
}

/* read(Program, Stream, Max) -> {ok, Binary} | eof | {select, Ref} | {error, Posix} */
static ERL_NIF_TERM nif_read(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	int stream, error;
	ErlNifUInt64 max;
	ErlNifBinary bin;
	ERL_NIF_TERM ref;
	ErlNifTime start = enif_monotonic_time(ERL_NIF_USEC);
	ssize_t n;

	(void)argc;
	if (!get_stream(argv[1], &stream) || stream == NR_STDIN ||
	    !enif_get_uint64(env, argv[2], &max) || max == 0 || !enter(env, argv[0], &p))
		return enif_make_badarg(env);
	if (p->released || p->streams[stream].closed)
		return leave(p, failure(env, -EPIPE));
	if (!enif_alloc_binary(max < MAX_READ ? (size_t)max : MAX_READ, &bin))
		return leave(p, failure(env, -ENOMEM));
	n = nr_read(p->proc, stream, bin.data, bin.size);
	if (n > 0) {
		report_time(env, start);
		if (n >= FULL_PIPE)
			enlarge(p, stream);
		if ((size_t)n < bin.size)
			enif_realloc_binary(&bin, (size_t)n);
		return leave(p, enif_make_tuple2(env, atom_ok, enif_make_binary(env, &bin)));
	}
	enif_release_binary(&bin);
	if (n == 0)
		return leave(p, atom_eof);
	if (n != -EAGAIN)
		return leave(p, failure(env, (int)n));
	error = watch(env, p, stream, &ref);
	if (error)
		return leave(p, failure(env, error));
	return leave(p, enif_make_tuple2(env, atom_select, ref));
}

/* There is room for some bytes, at most limit in all. Twice as much each time. */
static bool grow(struct program *p, size_t limit)
{
	size_t size = p->collected.size;

	if (!p->collected.data)
		return enif_alloc_binary(limit < FULL_PIPE ? limit : FULL_PIPE, &p->collected);
	if (p->used < size)
		return true;
	size = size < limit / 2 ? size * 2 : limit;
	return enif_realloc_binary(&p->collected, size);
}

/*
 * collect(Program, Stream, Max) -> more | eof | full | {select, Ref} | {error, Posix}
 *
 * Reads into a binary that grows, which take() returns: large output is copied
 * once. more: that was enough for one call. full: there is more than Max, which is
 * what has been collected.
 */
static ERL_NIF_TERM nif_collect(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	int stream, error;
	ErlNifUInt64 max;
	ERL_NIF_TERM ref;
	ErlNifTime start = enif_monotonic_time(ERL_NIF_USEC);
	size_t done = 0;

	(void)argc;
	if (!get_stream(argv[1], &stream) || stream == NR_STDIN ||
	    !enif_get_uint64(env, argv[2], &max) || max >= SIZE_MAX || !enter(env, argv[0], &p))
		return enif_make_badarg(env);
	if (p->released || p->streams[stream].closed)
		return leave(p, failure(env, -EPIPE));
	while (done < MAX_READ) {
		size_t room;
		ssize_t n;

		/* One byte beyond tells that there is more. */
		if (p->used > max || !grow(p, (size_t)max + 1))
			return leave(p, p->used > max ? atom_full : failure(env, -ENOMEM));
		room = p->collected.size - p->used;
		n = nr_read(p->proc, stream, p->collected.data + p->used,
			    room < MAX_READ ? room : MAX_READ);
		if (n == 0) {
			report_time(env, start);
			return leave(p, atom_eof);
		}
		if (n == -EAGAIN) {
			report_time(env, start);
			error = watch(env, p, stream, &ref);
			if (error)
				return leave(p, failure(env, error));
			return leave(p, enif_make_tuple2(env, atom_select, ref));
		}
		if (n < 0)
			return leave(p, failure(env, (int)n));
		if (n >= FULL_PIPE)
			enlarge(p, stream);
		p->used += (size_t)n;
		done += (size_t)n;
	}
	report_time(env, start);
	return leave(p, atom_more);
}

/* take(Program, Max) -> Binary, of what has been collected and no more than Max */
static ERL_NIF_TERM nif_take(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	ErlNifUInt64 max;
	ERL_NIF_TERM taken;

	(void)argc;
	if (!enif_get_uint64(env, argv[1], &max) || !enter(env, argv[0], &p))
		return enif_make_badarg(env);
	if (!p->collected.data)
		return leave(p, text(env, ""));
	if (p->used > max)
		p->used = (size_t)max;
	enif_realloc_binary(&p->collected, p->used);
	taken = enif_make_binary(env, &p->collected);
	memset(&p->collected, 0, sizeof p->collected);
	p->used = 0;
	return leave(p, taken);
}

/* rest is what is left of a list of binaries: from offset in the first one. */
static ERL_NIF_TERM rest(ErlNifEnv *env, ERL_NIF_TERM list, size_t offset)
{
	ERL_NIF_TERM head, tail;
	ErlNifBinary bin;

	if (offset == 0)
		return list;
	enif_get_list_cell(env, list, &head, &tail);
	enif_inspect_binary(env, head, &bin);
	return enif_make_list_cell(env, enif_make_sub_binary(env, head, offset, bin.size - offset),
				   tail);
}

/*
 * write(Program, [Binary]) -> ok | {more, Rest} | {select, Ref, Rest} | {error, Posix}
 *
 * more: that was enough for one call.
 */
static ERL_NIF_TERM nif_write(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	ERL_NIF_TERM list = argv[1], head, tail, ref;
	ErlNifBinary bin;
	size_t written = 0, offset = 0;
	ErlNifTime start = enif_monotonic_time(ERL_NIF_USEC);
	unsigned vectors = 0;
	int error;

	(void)argc;
	if (!enif_is_list(env, list) || !enter(env, argv[0], &p))
		return enif_make_badarg(env);
	if (p->released || p->streams[NR_STDIN].closed)
		return leave(p, failure(env, -EPIPE));
	while (enif_get_list_cell(env, list, &head, &tail)) {
		size_t len;
		ssize_t n;

		if (!enif_inspect_binary(env, head, &bin))
			return leave(p, enif_make_badarg(env));
		len = bin.size - offset;
		if (len == 0) {
			list = tail;
			offset = 0;
			continue;
		}
		if (written >= MAX_WRITE || vectors++ >= MAX_VECTORS) {
			report_time(env, start);
			return leave(p, enif_make_tuple2(env, atom_more, rest(env, list, offset)));
		}
		n = nr_write(p->proc, bin.data + offset,
			     len < MAX_WRITE - written ? len : MAX_WRITE - written);
		if (n == -EAGAIN) {
			report_time(env, start);
			error = watch(env, p, NR_STDIN, &ref);
			if (error)
				return leave(p, failure(env, error));
			return leave(p, enif_make_tuple3(env, atom_select, ref,
							 rest(env, list, offset)));
		}
		if (n < 0)
			return leave(p, failure(env, (int)n));
		written += (size_t)n;
		offset += (size_t)n;
	}
	if (!enif_is_empty_list(env, list))
		return leave(p, enif_make_badarg(env));
	report_time(env, start);
	return leave(p, atom_ok);
}

/*
 * close(Program, Stream) -> ok | {select, Ref} | {error, Posix}
 *
 * select, of a terminal's stdin: it is full, try again when it is not.
 */
static ERL_NIF_TERM nif_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	struct stream *s;
	int stream, error = 0;
	ERL_NIF_TERM ref;

	(void)argc;
	if (!get_stream(argv[1], &stream) || !enter(env, argv[0], &p))
		return enif_make_badarg(env);
	s = &p->streams[stream];
	if (p->released || s->closed)
		return leave(p, atom_ok);
	if (p->terminal && stream == NR_STDIN) {
		error = nr_close_stdin(p->proc);
		if (error == -EAGAIN) {
			error = watch(env, p, stream, &ref);
			if (!error)
				return leave(p, enif_make_tuple2(env, atom_select, ref));
		}
		if (error)
			return leave(p, failure(env, error));
	} else if (!s->watched) {
		error = nr_close(p->proc, stream);
	}
	s->closed = !error;
	shrink(s);
	if (s->closed)
		unwatch(env, p, s);
	return leave(p, done(env, error));
}

/* wait(Program) -> {exit, Code, Signal, Reason, Core} | {select, Ref} | {error, {Posix, Why}} */
static ERL_NIF_TERM nif_wait(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	nr_outcome how = { .size = sizeof how };
	const ERL_NIF_TERM reasons[] = { atom_own, atom_killed, atom_timeout, atom_output,
					 atom_oom };
	ERL_NIF_TERM ref;
	char why[512] = "";
	int error;

	(void)argc;
	if (!enter(env, argv[0], &p))
		return enif_make_badarg(env);
	error = p->released ? -EBADF : nr_wait(p->proc, 0, &how);
	if (error == 0) {
		ERL_NIF_TERM reason = how.reason >= 0 && how.reason <= NR_REASON_OOM
					      ? reasons[how.reason]
					      : atom_undefined;
		return leave(p, enif_make_tuple5(env, atom_exit, enif_make_int(env, how.code),
						 enif_make_int(env, how.signal), reason,
						 enif_make_int(env, how.core)));
	}
	if (error == -EAGAIN) {
		error = watch(env, p, NR_EXIT, &ref);
		if (!error)
			return leave(p, enif_make_tuple2(env, atom_select, ref));
	}
	if (error == -EOWNERDEAD)
		atomic_store(&shepherd_runs, false);
	if (p->released || nr_why(p->proc, why, sizeof why) < 0 || !why[0])
		strncpy(why, nr_strerror(error), sizeof why - 1);
	return leave(p, enif_make_tuple2(env, atom_error,
					 enif_make_tuple2(env, posix(env, error), text(env, why))));
}

/*
 * unselect(Program) -> ok | again
 *
 * Nobody is told any more, what has been told is in the mailbox, and the poll set
 * holds no reference to the program. again: a poll thread is busy with it.
 */
static ERL_NIF_TERM nif_unselect(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;

	(void)argc;
	if (!enter(env, argv[0], &p))
		return enif_make_badarg(env);
	for (int i = 0; i < STREAMS; i++)
		unwatch(env, p, &p->streams[i]);
	return leave(p, watched(p) ? atom_again : atom_ok);
}

/* pid(Program) -> {ok, Pid} | {error, Posix} */
static ERL_NIF_TERM nif_pid(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	int pid;

	(void)argc;
	if (!enter(env, argv[0], &p))
		return enif_make_badarg(env);
	pid = p->released ? -EBADF : nr_pid(p->proc);
	if (pid < 0)
		return leave(p, failure(env, pid));
	return leave(p, enif_make_tuple2(env, atom_ok, enif_make_int(env, pid)));
}

/* kill(Program, Number) -> ok | {error, Posix} */
static ERL_NIF_TERM nif_kill(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	int number;

	(void)argc;
	if (!enif_get_int(env, argv[1], &number) || !enter(env, argv[0], &p))
		return enif_make_badarg(env);
	return leave(p, done(env, p->released ? -EBADF : nr_kill(p->proc, number)));
}

/* stop(Program) -> ok | {error, Posix} */
static ERL_NIF_TERM nif_stop(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;

	(void)argc;
	if (!enter(env, argv[0], &p))
		return enif_make_badarg(env);
	return leave(p, done(env, p->released ? 0 : nr_stop(p->proc)));
}

/* winsize(Program, Rows, Cols) -> ok | {error, Posix} */
static ERL_NIF_TERM nif_winsize(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	uint16_t rows, cols;

	(void)argc;
	if (!get_uint16(env, argv[1], &rows) || !get_uint16(env, argv[2], &cols) ||
	    !enter(env, argv[0], &p))
		return enif_make_badarg(env);
	return leave(p, done(env, p->released ? -EBADF : nr_winsize(p->proc, rows, cols)));
}

/* stats(Program) -> {ok, Map} | {error, Posix}; what is not known is undefined */
static ERL_NIF_TERM nif_stats(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	nr_statistics s = { .size = sizeof s };
	ERL_NIF_TERM map = enif_make_new_map(env);
	int error;

	(void)argc;
	if (!enter(env, argv[0], &p))
		return enif_make_badarg(env);
	error = p->released ? -EBADF : nr_stats(p->proc, &s);
	leave(p, 0);
	if (error)
		return failure(env, error);
#define PUT(name)                                                                                \
	enif_make_map_put(env, map, atom_##name,                                                 \
			  s.name == UINT64_MAX ? atom_undefined : enif_make_uint64(env, s.name), \
			  &map);
	PUT(stdin_bytes)
	PUT(stdout_bytes)
	PUT(stderr_bytes)
	PUT(writes)
	PUT(reads)
	PUT(wall_ns)
	PUT(user_ns)
	PUT(system_ns)
	PUT(memory)
	PUT(memory_peak)
	PUT(processes)
	PUT(minor_faults)
	PUT(major_faults)
	PUT(blocks_in)
	PUT(blocks_out)
	PUT(voluntary_switches)
	PUT(involuntary_switches)
#undef PUT
	return enif_make_tuple2(env, atom_ok, map);
}

/*
 * The cgroup files are read and written without the lock: a write may take as
 * long as the kernel needs to reclaim memory. The library does not mind.
 */
static ERL_NIF_TERM nif_cgroup_get(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	const char *file;
	ErlNifBinary bin;
	ssize_t n;
	size_t size = 4096;

	(void)argc;
	if (!enif_get_resource(env, argv[0], program_type, (void **)&p) ||
	    !get_string(env, argv[1], &file))
		return enif_make_badarg(env);
	for (;;) {
		if (!enif_alloc_binary(size, &bin))
			return failure(env, -ENOMEM);
		n = nr_cgroup_get(p->proc, file, (char *)bin.data, bin.size);
		if (n >= 0 && (size_t)n < bin.size)
			break;
		enif_release_binary(&bin);
		if (n < 0)
			return failure(env, (int)n);
		size = (size_t)n + 1024;
	}
	enif_realloc_binary(&bin, (size_t)n);
	return enif_make_tuple2(env, atom_ok, enif_make_binary(env, &bin));
}

static ERL_NIF_TERM nif_cgroup_set(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	const char *file, *value;

	(void)argc;
	if (!enif_get_resource(env, argv[0], program_type, (void **)&p) ||
	    !get_string(env, argv[1], &file) || !get_string(env, argv[2], &value))
		return enif_make_badarg(env);
	return done(env, nr_cgroup_set(p->proc, file, value));
}

/* release(Program) -> ok */
static ERL_NIF_TERM nif_release(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;

	(void)argc;
	if (!enter(env, argv[0], &p))
		return enif_make_badarg(env);
	release(env, p);
	return leave(p, atom_ok);
}

/* set_owner(Program, Pid) -> ok | {error, esrch} */
static ERL_NIF_TERM nif_set_owner(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	struct program *p;
	ErlNifPid pid;
	ErlNifMonitor monitor;

	(void)argc;
	if (!enif_get_local_pid(env, argv[1], &pid) || !enter(env, argv[0], &p))
		return enif_make_badarg(env);
	if (p->released)
		return leave(p, failure(env, -EBADF));
	if (enif_monitor_process(env, p, &pid, &monitor) != 0)
		return leave(p, failure(env, -ESRCH));
	if (p->owned)
		enif_demonitor_process(env, p, &p->owner);
	p->owner = monitor;
	p->owned = true;
	return leave(p, atom_ok);
}

/* user(Name) -> {ok, {Uid, Gid, Groups}} | {error, Posix}; enoent: there is none */
static ERL_NIF_TERM nif_user(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	const char *name;
	struct passwd pw, *found = NULL;
	char *buf;
	size_t size = 16384;
	int error, count = 64;
	gid_t *groups = NULL, *more;
	ERL_NIF_TERM list, result;

	(void)argc;
	if (!get_string(env, argv[0], &name))
		return enif_make_badarg(env);
	buf = malloc(size);
	if (!buf)
		return failure(env, -ENOMEM);
	error = getpwnam_r(name, &pw, buf, size, &found);
	if (!found) {
		free(buf);
		return failure(env, error ? -error : -ENOENT);
	}
	for (;;) {
		int room = count;
		more = realloc(groups, (size_t)room * sizeof *groups);
		if (!more) {
			free(groups);
			free(buf);
			return failure(env, -ENOMEM);
		}
		groups = more;
		if (getgrouplist(name, pw.pw_gid, groups, &count) >= 0)
			break;
		if (count <= room)
			count = room * 2;
	}
	list = enif_make_list(env, 0);
	for (int i = count; i-- > 0;)
		list = enif_make_list_cell(env, enif_make_uint(env, groups[i]), list);
	result = enif_make_tuple3(env, enif_make_uint(env, pw.pw_uid),
				  enif_make_uint(env, pw.pw_gid), list);
	free(groups);
	free(buf);
	return enif_make_tuple2(env, atom_ok, result);
}

/* group(Name) -> {ok, Gid} | {error, Posix} */
static ERL_NIF_TERM nif_group(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	const char *name;
	struct group gr, *found = NULL;
	char *buf = NULL, *more;
	gid_t gid = 0;
	int error = ERANGE;

	(void)argc;
	if (!get_string(env, argv[0], &name))
		return enif_make_badarg(env);
	for (size_t size = 16384; error == ERANGE; size *= 2) {
		more = realloc(buf, size);
		if (!more) {
			error = ENOMEM;
			break;
		}
		buf = more;
		error = getgrnam_r(name, &gr, buf, size, &found);
	}
	if (found)
		gid = found->gr_gid;
	free(buf);
	if (!found)
		return failure(env, error ? -error : -ENOENT);
	return enif_make_tuple2(env, atom_ok, enif_make_uint(env, gid));
}

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "sighup", SIGHUP },       { "sigint", SIGINT },       { "sigquit", SIGQUIT },
	{ "sigill", SIGILL },       { "sigtrap", SIGTRAP },     { "sigabrt", SIGABRT },
	{ "sigbus", SIGBUS },       { "sigfpe", SIGFPE },       { "sigkill", SIGKILL },
	{ "sigusr1", SIGUSR1 },     { "sigsegv", SIGSEGV },     { "sigusr2", SIGUSR2 },
	{ "sigpipe", SIGPIPE },     { "sigalrm", SIGALRM },     { "sigterm", SIGTERM },
	{ "sigstkflt", SIGSTKFLT }, { "sigchld", SIGCHLD },     { "sigcont", SIGCONT },
	{ "sigstop", SIGSTOP },     { "sigtstp", SIGTSTP },     { "sigttin", SIGTTIN },
	{ "sigttou", SIGTTOU },     { "sigurg", SIGURG },       { "sigxcpu", SIGXCPU },
	{ "sigxfsz", SIGXFSZ },     { "sigvtalrm", SIGVTALRM }, { "sigprof", SIGPROF },
	{ "sigwinch", SIGWINCH },   { "sigio", SIGIO },         { "sigpoll", SIGPOLL },
	{ "sigpwr", SIGPWR },       { "sigsys", SIGSYS },
};

/* signals() -> #{sigterm => 15, ...} */
static ERL_NIF_TERM nif_signals(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	ERL_NIF_TERM map = enif_make_new_map(env);

	(void)argc;
	(void)argv;
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		enif_make_map_put(env, map, enif_make_atom(env, signals[i].name),
				  enif_make_int(env, signals[i].number), &map);
	return map;
}

/*
 * environment([Name]) -> [<<"Name=Value">>], of those that are set
 *
 * The emulator's environment, to the byte; os:env() decodes it.
 */
static ERL_NIF_TERM nif_environment(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	ERL_NIF_TERM list = argv[0], head, entry, all = enif_make_list(env, 0);
	const char *name;

	(void)argc;
	while (enif_get_list_cell(env, list, &head, &list)) {
		char buf[4096], *value = buf, *more = NULL;
		size_t size = sizeof buf, length;
		unsigned char *at;
		int error;

		if (!get_string(env, head, &name))
			return enif_make_badarg(env);
		/* It may grow between two calls. */
		while ((error = enif_getenv(name, value, &size)) > 0) {
			free(more);
			value = more = malloc(++size);
			if (!more)
				return failure(env, -ENOMEM);
		}
		if (error == 0) {
			length = strlen(name);
			size = strlen(value);
			at = enif_make_new_binary(env, length + 1 + size, &entry);
			memcpy(at, name, length);
			at[length] = '=';
			memcpy(at + length + 1, value, size);
			all = enif_make_list_cell(env, entry, all);
		}
		free(more);
	}
	return enif_is_empty_list(env, list) ? all : enif_make_badarg(env);
}

/* version() -> Binary, of the loaded library */
static ERL_NIF_TERM nif_version(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	(void)argc;
	(void)argv;
	return text(env, nr_version_string());
}

static ErlNifFunc functions[] = {
	{ "spawn_program", 2, spawn_program, 0 },
	{ "read", 3, nif_read, 0 },
	{ "collect", 3, nif_collect, 0 },
	{ "take", 2, nif_take, 0 },
	{ "write", 2, nif_write, 0 },
	{ "close", 2, nif_close, 0 },
	{ "wait", 1, nif_wait, 0 },
	{ "unselect", 1, nif_unselect, 0 },
	{ "pid", 1, nif_pid, 0 },
	{ "kill", 2, nif_kill, 0 },
	{ "stop", 1, nif_stop, 0 },
	{ "winsize", 3, nif_winsize, 0 },
	{ "stats", 1, nif_stats, 0 },
	{ "cgroup_get", 2, nif_cgroup_get, ERL_NIF_DIRTY_JOB_IO_BOUND },
	{ "cgroup_set", 3, nif_cgroup_set, ERL_NIF_DIRTY_JOB_IO_BOUND },
	{ "release", 1, nif_release, 0 },
	{ "set_owner", 2, nif_set_owner, 0 },
	{ "user", 1, nif_user, ERL_NIF_DIRTY_JOB_IO_BOUND },
	{ "group", 1, nif_group, ERL_NIF_DIRTY_JOB_IO_BOUND },
	{ "environment", 1, nif_environment, 0 },
	{ "signals", 0, nif_signals, 0 },
	{ "version", 0, nif_version, 0 },
};

/*
 * The name of the type is that of the layout of struct program: a new version
 * of this module takes over the programs of the old one, if it knows them.
 */
static int load(ErlNifEnv *env, void **priv, ERL_NIF_TERM info)
{
	(void)priv;
	(void)info;
	make_atoms(env);
	if (nr_version() >> 16 != NR_VERSION_MAJOR || nr_version() < NR_VERSION)
		return 1;
	program_type = enif_open_resource_type_x(env, "netrunner_program_1", &program_callbacks,
						 ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
	return program_type ? 0 : 1;
}

static int upgrade(ErlNifEnv *env, void **priv, void **old_priv, ERL_NIF_TERM info)
{
	(void)old_priv;
	return load(env, priv, info);
}

ERL_NIF_INIT(netrunner_nif, functions, load, NULL, upgrade, NULL)

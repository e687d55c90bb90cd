/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include <ctype.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nrun.h"

static const char help[] =
	"usage: nrun [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"Runs COMMAND, passes input, output and signals through, and leaves nothing of\n"
	"it behind.\n"
	"\n"
	"  -t, --timeout TIME     end it after TIME: 5, 1.5s, 200ms, 2m, 1h, 1d\n"
	"  -k, --kill-after TIME  from SIGTERM to SIGKILL; 5s if not given, 0 is at once\n"
	"  -o, --max-output SIZE  end it when it has written more: 4096, 64K, 1M, 2G\n"
	"  -m, --memory SIZE      limit the memory of it and all that it starts\n"
	"  -c, --cpu PERCENT      limit the processor time: 50%, 200% is two processors\n"
	"  -p, --pids N           limit the processes and threads\n"
	"  -G, --cgroup PATH      for these limits, make a cgroup below PATH\n"
	"  -y, --pty              run it on a terminal of its own\n"
	"  -u, --uid USER         run it as this user, by name or number\n"
	"  -g, --gid GROUP        run it with this group, by name or number\n"
	"  -C, --cwd DIRECTORY    run it there\n"
	"  -e, --env NAME=VALUE   add to its environment\n"
	"  -l, --linger           what it leaves behind may finish its output\n"
	"  -n, --pid-namespace    run it in a PID namespace\n"
	"  -s, --stats            say on stderr what it has used\n"
	"  -J, --stats-json FILE  the same, for programs\n"
	"  -v, --progress         show bytes, rate and time while it runs, on a terminal\n"
	"  -h, --help             print this\n"
	"  -V, --version          print the version\n"
	"\n"
	"Exits with the program's status; with 128 + N if signal N ended it; with\n"
	"122 out of memory, 123 too much output, 124 out of time, 125 nrun failed,\n"
	"126 COMMAND cannot be executed, 127 COMMAND not found.\n";

static const struct option options[] = {
	{ "timeout", required_argument, NULL, 't' },
	{ "kill-after", required_argument, NULL, 'k' },
	{ "max-output", required_argument, NULL, 'o' },
	{ "memory", required_argument, NULL, 'm' },
	{ "cpu", required_argument, NULL, 'c' },
	{ "pids", required_argument, NULL, 'p' },
	{ "cgroup", required_argument, NULL, 'G' },
	{ "pty", no_argument, NULL, 'y' },
	{ "uid", required_argument, NULL, 'u' },
	{ "gid", required_argument, NULL, 'g' },
	{ "cwd", required_argument, NULL, 'C' },
	{ "env", required_argument, NULL, 'e' },
	{ "linger", no_argument, NULL, 'l' },
	{ "pid-namespace", no_argument, NULL, 'n' },
	{ "stats", no_argument, NULL, 's' },
	{ "stats-json", required_argument, NULL, 'J' },
	{ "progress", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

_Noreturn static void try_help(void)
{
	fputs("Try 'nrun --help'.\n", stderr);
	exit(FAILED);
}

/* value is what was given for option, and what should have been is wanted. */
_Noreturn static void wrong(const char *option, const char *value, const char *wanted)
{
	fprintf(stderr, "nrun: --%s: \"%s\" is not %s\n", option, value, wanted);
	try_help();
}

/*
 * Digits, and no sign, space, exponent or overflow. *rest is what follows
 * them; NULL in it is an error.
 */
static uint64_t digits(const char *text, const char **rest)
{
	uint64_t n = 0;

	*rest = isdigit((unsigned char)*text) ? text : NULL;
	for (; isdigit((unsigned char)*text); text++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n)) {
			*rest = NULL;
			return 0;
		}
		*rest = text + 1;
	}
	return n;
}

static uint64_t parse_number(const char *option, const char *text, uint64_t least, uint64_t most,
			     const char *wanted)
{
	const char *rest;
	uint64_t n = digits(text, &rest);

	if (!rest || *rest || n < least || n > most)
		wrong(option, text, wanted);
	return n;
}

static uint64_t parse_size(const char *option, const char *text)
{
	static const char *const wanted =
		"a number of bytes above 0, with K, M, G or T for powers of 1024";
	static const char units[] = "KMGT";
	const char *rest;
	uint64_t n = digits(text, &rest);

	if (!rest || n == 0)
		wrong(option, text, wanted);
	if (*rest) {
		const char *unit = strchr(units, *rest);

		if (!unit || rest[1] || n > (uint64_t)INT64_MAX >> (10 * (unit - units + 1)))
			wrong(option, text, wanted);
		n <<= 10 * (unit - units + 1);
	}
	if (n > INT64_MAX)
		wrong(option, text, wanted);
	return n;
}

/* In milliseconds, rounded up. */
static int64_t parse_time(const char *option, const char *text)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = { { "", 1000 },   { "s", 1000 },    { "ms", 1 },
		      { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
	static const char *const wanted = "a time such as 5, 1.5s, 200ms, 2m, 1h or 1d";
	const char *rest;
	uint64_t whole = digits(text, &rest), part = 0, scale = 1, ms;

	if (!rest)
		wrong(option, text, wanted);
	if (*rest == '.') {
		const char *point = rest;

		part = digits(point + 1, &rest);
		if (!rest || rest - point > 10)
			wrong(option, text, wanted);
		for (const char *c = point + 1; c < rest; c++)
			scale *= 10;
	}
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (strcmp(rest, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(whole, units[i].ms, &ms) ||
		    __builtin_add_overflow(ms, (part * units[i].ms + scale - 1) / scale, &ms) ||
		    ms > INT64_MAX / 1000000)
			wrong(option, text, "a time that can be measured");
		return (int64_t)ms;
	}
	wrong(option, text, wanted);
}

__attribute__((format(printf, 2, 3))) static void limit(struct request *r, const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		abort();
	va_end(arguments);
	r->limits[r->nlimits++] = text;
}

/*
 * A user is a user id, a primary group, and further groups. Those of root, with
 * another user's id, would be no change of user.
 */
static void parse_identity(nr_options *o, const char *user, const char *group)
{
	static gid_t groups[1 << 16];
	int ngroups = sizeof groups / sizeof *groups;
	const char *rest;
	uint64_t id;

	if (user) {
		struct passwd *pw = getpwnam(user);

		id = digits(user, &rest);
		if (!pw && rest && !*rest && id < UINT32_MAX) {
			o->uid = (uint32_t)id;
			pw = getpwuid((uid_t)id);
			if (!pw && !group) {
				say("--uid: user %s has no name, and so no group: add --gid", user);
				try_help();
			}
		} else if (!pw) {
			wrong("uid", user, "a user");
		}
		if (pw) {
			o->uid = pw->pw_uid;
			o->gid = pw->pw_gid;
			o->flags |= NR_SET_GID;
			if (getgrouplist(pw->pw_name, pw->pw_gid, groups, &ngroups) < 0)
				ngroups = 0;
			o->groups = groups;
			o->ngroups = (size_t)ngroups;
		}
		o->flags |= NR_SET_UID | NR_SET_GROUPS;
	}
	if (group) {
		struct group *gr = getgrnam(group);

		id = digits(group, &rest);
		if (gr)
			id = gr->gr_gid;
		else if (!rest || *rest || id >= UINT32_MAX)
			wrong("gid", group, "a group");
		o->gid = (uint32_t)id;
		o->flags |= NR_SET_GID | NR_SET_GROUPS;
	}
}

void parse_options(struct request *r, int argc, char **argv)
{
	const char *user = NULL, *group = NULL;
	unsigned long long n;
	int option;

	argv[0] = (char[]){ "nrun" }; /* in the words of getopt_long() */
	/* The first word that is no option is the command. */
	while ((option = getopt_long(argc, argv, "+t:k:o:m:c:p:G:yu:g:C:e:lnsJ:vhV", options,
				     NULL)) != -1) {
		switch (option) {
		case 't':
			r->o.timeout_ms = parse_time("timeout", optarg);
			if (r->o.timeout_ms == 0)
				wrong("timeout", optarg, "above 0");
			break;
		case 'k':
			r->o.kill_timeout_ms = parse_time("kill-after", optarg);
			if (r->o.kill_timeout_ms == 0)
				r->o.kill_timeout_ms = NR_KILL_NOW;
			break;
		case 'o':
			r->o.output_limit = parse_size("max-output", optarg);
			break;
		case 'm':
			n = parse_size("memory", optarg);
			limit(r, "memory.max=%llu", n);
			/* All of it, or the program goes on without a part of itself. */
			limit(r, "memory.oom.group=1");
			break;
		case 'c': {
			static const char *const wanted = "a percentage of a processor such as 50%";
			size_t length = strlen(optarg);
			const char *rest;
			char number[24];

			if (length < 2 || length >= sizeof number || optarg[length - 1] != '%')
				wrong("cpu", optarg, wanted);
			snprintf(number, sizeof number, "%.*s", (int)(length - 1), optarg);
			n = digits(number, &rest);
			if (!rest || *rest || n < 1 || n > 1000000)
				wrong("cpu", optarg, wanted);
			limit(r, "cpu.max=%llu 100000", n * 1000);
			break;
		}
		case 'p':
			n = parse_number("pids", optarg, 1, 4194304, "a number above 0");
			limit(r, "pids.max=%llu", n);
			break;
		case 'G':
			r->cgroup = optarg;
			break;
		case 'y':
			r->o.flags |= NR_PTY;
			break;
		case 'u':
			user = optarg;
			break;
		case 'g':
			group = optarg;
			break;
		case 'C':
			r->o.cwd = optarg;
			break;
		case 'e':
			/* Ours is what the program gets. */
			if (*optarg == '=' || !strchr(optarg, '='))
				wrong("env", optarg, "NAME=VALUE");
			putenv(optarg);
			break;
		case 'l':
			r->o.flags |= NR_LINGER;
			break;
		case 'n':
			r->o.flags |= NR_PID_NAMESPACE;
			break;
		case 's':
			r->stats = true;
			break;
		case 'J':
			r->stats_json = optarg;
			break;
		case 'v':
			r->progress = true;
			break;
		case 'h':
			fputs(help, stdout);
			exit(fflush(stdout) == 0 ? 0 : FAILED);
		case 'V':
			printf("nrun %s\n", nr_version_string());
			exit(fflush(stdout) == 0 ? 0 : FAILED);
		default: /* getopt_long has said what is wrong */
			try_help();
		}
	}
	if (optind == argc) {
		fputs("nrun: which command?\n", stderr);
		try_help();
	}
	if (r->progress && r->o.flags & NR_PTY) {
		fputs("nrun: --progress and --pty exclude each other\n", stderr);
		try_help();
	}
	parse_identity(&r->o, user, group);
	r->o.argv = (const char *const *)(argv + optind);
}

/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nrun.h"

/* One write(2), so that others who write there don't get in between. */
static void put(const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = write(STDERR_FILENO, text, length);

		if (n < 0 && errno != EINTR)
			return; /* whom to tell? */
		text += n > 0 ? n : 0;
		length -= n > 0 ? (size_t)n : 0;
	}
}

void say(const char *format, ...)
{
	char line[2048] = "nrun: ";
	va_list arguments;
	size_t length;

	va_start(arguments, format);
	vsnprintf(line + 6, sizeof line - 7, format, arguments);
	va_end(arguments);
	length = strlen(line);
	line[length++] = '\n';
	put(line, length);
}

/* --- what it has used ---------------------------------------------------- */

/* "1.5 GiB", "17 bytes" */
static const char *human(uint64_t bytes, char *text, size_t size)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(text, size, "%" PRIu64 " bytes", bytes);
		return text;
	}
	/* 1023.96 KiB would be printed as 1024.0 KiB. */
	for (n /= 1024; n >= 1023.95; n /= 1024)
		unit++;
	snprintf(text, size, "%.1f %s", n, units[unit]);
	return text;
}

static const char *outcome(const nr_outcome *how, char *text, size_t size)
{
	static const char *const reasons[] = {
		[NR_REASON_OWN] = "",
		[NR_REASON_KILLED] = "",
		[NR_REASON_TIMEOUT] = ", out of time",
		[NR_REASON_OUTPUT] = ", too much output",
		[NR_REASON_OOM] = ", out of memory",
	};

	if (how->signal >= 0)
		snprintf(text, size, "signal %d (%s)%s", how->signal, strsignal(how->signal),
			 reasons[how->reason]);
	else
		snprintf(text, size, "exit code %d%s", how->code, reasons[how->reason]);
	return text;
}

static const struct row {
	const char *label; /* NULL: only for programs */
	const char *key;
	size_t offset;
	enum { TIME, BYTES, COUNT } unit;
} rows[] = {
#define ROW(label, field, unit)                                     \
	{                                                           \
		label, #field, offsetof(nr_statistics, field), unit \
	}
	ROW("time", wall_ns, TIME),
	ROW("in user mode", user_ns, TIME),
	ROW("in the kernel", system_ns, TIME),
	ROW("most memory", memory_peak, BYTES),
	ROW("stdin", stdin_bytes, BYTES),
	ROW("stdout", stdout_bytes, BYTES),
	ROW("stderr", stderr_bytes, BYTES),
	ROW(NULL, writes, COUNT),
	ROW(NULL, reads, COUNT),
	ROW("minor faults", minor_faults, COUNT),
	ROW("major faults", major_faults, COUNT),
	ROW("blocks read", blocks_in, COUNT),
	ROW("blocks written", blocks_out, COUNT),
	ROW("switches, waiting", voluntary_switches, COUNT),
	ROW("switches, forced", involuntary_switches, COUNT),
#undef ROW
};

enum { NROWS = sizeof rows / sizeof *rows };

/* What is not known is UINT64_MAX. */
static uint64_t value(const nr_statistics *s, const struct row *row)
{
	uint64_t n;

	memcpy(&n, (const char *)s + row->offset, sizeof n);
	return n;
}

static bool get_stats(nr_proc p, nr_statistics *s)
{
	int error = nr_stats(p, s);

	if (error < 0)
		say("statistics: %s", nr_strerror(error));
	return error == 0;
}

void print_stats(nr_proc p, const char *name, const nr_outcome *how)
{
	nr_statistics s = { .size = sizeof s };
	char table[4096], text[64];
	int used;

	if (!get_stats(p, &s))
		return;
	used = snprintf(table, sizeof table, "nrun: %.2048s: %s\n", name,
			outcome(how, text, sizeof text));
	for (size_t i = 0; i < NROWS; i++) {
		uint64_t n = value(&s, &rows[i]);

		if (!rows[i].label || n == UINT64_MAX)
			continue;
		if (rows[i].unit == TIME)
			snprintf(text, sizeof text, "%.3f s", (double)n / 1e9);
		else if (rows[i].unit == BYTES)
			human(n, text, sizeof text);
		else
			snprintf(text, sizeof text, "%" PRIu64, n);
		used += snprintf(table + used, sizeof table - (size_t)used, "  %-18s %14s\n",
				 rows[i].label, text);
	}
	put(table, (size_t)used);
}

bool write_stats_json(nr_proc p, const char *path, const nr_outcome *how)
{
	static const char *const reasons[] = {
		[NR_REASON_OWN] = "own",         [NR_REASON_KILLED] = "killed",
		[NR_REASON_TIMEOUT] = "timeout", [NR_REASON_OUTPUT] = "output",
		[NR_REASON_OOM] = "oom",
	};
	nr_statistics s = { .size = sizeof s };
	FILE *f;
	bool failed;

	if (!get_stats(p, &s))
		return false;
	f = fopen(path, "we");
	if (!f) {
		say("%s: %s", path, strerror(errno));
		return false;
	}
	fprintf(f, how->code >= 0 ? "{\"code\": %d" : "{\"code\": null", how->code);
	fprintf(f, how->signal >= 0 ? ", \"signal\": %d" : ", \"signal\": null", how->signal);
	fprintf(f, ", \"reason\": \"%s\"", reasons[how->reason]);
	for (size_t i = 0; i < NROWS; i++) {
		uint64_t n = value(&s, &rows[i]);

		if (n == UINT64_MAX)
			fprintf(f, ", \"%s\": null", rows[i].key);
		else
			fprintf(f, ", \"%s\": %" PRIu64, rows[i].key, n);
	}
	fputs("}\n", f);
	failed = ferror(f);
	if (fclose(f) != 0 || failed) {
		say("%s: %s", path, strerror(errno));
		return false;
	}
	return true;
}

/* --- while it runs ------------------------------------------------------- */

enum { FIRST_MS = 1000, EVERY_MS = 500 };

static struct {
	int64_t start;
	int64_t last; /* time and bytes of the line before */
	int64_t next;
	uint64_t in;
	uint64_t out;
	bool visible;
	bool middle; /* of somebody else's line */
} line;

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void progress_start(void)
{
	line.start = line.last = now_ms();
	line.next = line.start + FIRST_MS;
}

int progress_due(void)
{
	int64_t left = line.next - now_ms();

	return left > 0 ? (int)left : 0;
}

void progress_show(uint64_t in, uint64_t out)
{
	int64_t now = now_ms(), s = (now - line.start) / 1000;
	double passed = (double)(now - line.last) / 1000;
	char text[256], a[32], b[32], c[32], d[32];
	int length;

	length = snprintf(text, sizeof text,
			  "\r\033[Kin %s, %s/s  out %s, %s/s  %" PRId64 ":%02" PRId64 ":%02" PRId64,
			  human(in, a, sizeof a),
			  human((uint64_t)((double)(in - line.in) / passed), b, sizeof b),
			  human(out, c, sizeof c),
			  human((uint64_t)((double)(out - line.out) / passed), d, sizeof d),
			  s / 3600, s / 60 % 60, s % 60);
	line.last = now;
	line.in = in;
	line.out = out;
	line.next = now + EVERY_MS;
	if (line.middle)
		return;
	put(text, (size_t)length);
	line.visible = true;
}

void progress_hide(char last)
{
	if (line.visible)
		put("\r\033[K", 4);
	line.visible = false;
	line.middle = last != '\n';
}

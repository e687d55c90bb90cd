/* SPDX-License-Identifier: Apache-2.0 */

/*
 * hostile.h - what hostile.c and those who run it agree upon, and how they find
 * its processes again.
 *
 * Not by their environment, descriptors, groups or parents, as they get rid of
 * all those, but by their name: the tag of the tree, and behind it a plus when
 * the process is where it was sent. Forks inherit the name, and zombies keep it.
 */

#ifndef HOSTILE_H
#define HOSTILE_H

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* No process of a tree lives for longer, whatever becomes of it. */
#define HOSTILE_LIFE_SECONDS 60

/* What a leader is told by: to exit with 7, and to write for ever. */
#define HOSTILE_EXIT SIGUSR1
#define HOSTILE_EXIT_CODE 7
#define HOSTILE_WRITE SIGUSR2

/* Fits into the name of a process, with the plus. All have the same length. */
struct hostile_tag {
	char text[11];
};

/* A tag that no tree of another process has, nor another tree of this one. */
static inline struct hostile_tag hostile_new_tag(pid_t maker, unsigned number)
{
	struct hostile_tag tag;

	snprintf(tag.text, sizeof tag.text, "h%06x%03x", (unsigned)maker & 0xffffff,
		 number & 0xfff);
	return tag;
}

struct hostile_member {
	pid_t pid;
	pid_t parent;
	char state;
	bool settled;
};

/* The processes with a tag, at some moment. */
struct hostile_census {
	size_t alive;
	size_t settled; /* of those that are alive */
	size_t zombies;
	size_t listed;
	struct hostile_member list[1024];
};

static inline size_t hostile_read(pid_t pid, const char *name, char *buf, size_t len)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, len - 1);
	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* Just after an execve(2) it has no name of its own yet, but the arguments. */
static inline bool hostile_has_argument(pid_t pid, const char *tag)
{
	char buf[512];
	size_t len = hostile_read(pid, "cmdline", buf, sizeof buf);

	for (size_t at = 0; at < len; at += strlen(buf + at) + 1)
		if (strncmp(buf + at, tag, strlen(tag)) == 0)
			return true;
	return false;
}

static inline bool hostile_look(pid_t pid, const char *tag, struct hostile_member *m)
{
	char buf[512];
	const char *name, *end;
	size_t len = strlen(tag);

	hostile_read(pid, "stat", buf, sizeof buf);
	name = strchr(buf, '(');
	end = strrchr(buf, ')');
	if (!name++ || !end)
		return false;
	if (sscanf(end + 1, " %c %d", &m->state, &m->parent) != 2)
		return false;
	m->pid = pid;
	m->settled = name[len] == '+';
	if (strncmp(name, tag, len) == 0)
		return true;
	m->settled = false;
	return (strncmp(name, "hostile)", 8) == 0 || strncmp(name, "exe)", 4) == 0) &&
	       hostile_has_argument(pid, tag);
}

/* tag may also be the beginning of many. */
static inline void hostile_count(const char *tag, struct hostile_census *c)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	c->alive = c->settled = c->zombies = c->listed = 0;
	if (!dir)
		abort();
	while ((entry = readdir(dir))) {
		struct hostile_member m;

		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    !hostile_look((pid_t)atoi(entry->d_name), tag, &m))
			continue;
		if (m.state == 'Z' || m.state == 'X') {
			c->zombies++;
		} else {
			c->alive++;
			c->settled += m.settled;
		}
		if (c->listed < sizeof c->list / sizeof c->list[0])
			c->list[c->listed++] = m;
	}
	closedir(dir);
}

/*
 * Whether nothing has that tag, not even a zombie. A scan may miss who forks
 * and ends while it is made, so one is not enough.
 */
static inline bool hostile_gone(const char *tag, struct hostile_census *c)
{
	for (int i = 0; i < 3; i++) {
		hostile_count(tag, c);
		if (c->listed)
			return false;
	}
	return true;
}

/* Writes "PID state S parent PID (NAME)" for each. */
static inline void hostile_print(FILE *f, const struct hostile_census *c, size_t max)
{
	for (size_t i = 0; i < c->listed && i < max; i++) {
		char mine[64], its[64];

		hostile_read(c->list[i].pid, "comm", mine, sizeof mine);
		hostile_read(c->list[i].parent, "comm", its, sizeof its);
		mine[strcspn(mine, "\n")] = its[strcspn(its, "\n")] = '\0';
		fprintf(f, "  %d (%s) state %c, parent %d (%s)\n", c->list[i].pid, mine,
			c->list[i].state, c->list[i].parent, its);
	}
	if (c->listed > max)
		fprintf(f, "  and %zu more\n", c->listed - max);
}

/* Kills those that a failed test has left: they are looked at once more. */
static inline void hostile_kill(const char *tag)
{
	static struct hostile_census c;

	/* More than once, as they may have children meanwhile. */
	for (int i = 0; i < 100; i++) {
		size_t hit = 0;

		hostile_count(tag, &c);
		for (size_t k = 0; k < c.listed; k++) {
			struct hostile_member m;

			if (c.list[k].state == 'Z' || !hostile_look(c.list[k].pid, tag, &m))
				continue;
			kill(m.pid, SIGKILL);
			hit++;
		}
		if (!hit)
			break;
	}
}

#endif /* HOSTILE_H */

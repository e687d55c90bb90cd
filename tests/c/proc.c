/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Returns the number of bytes read, 0 if that failed; always terminates. */
static size_t read_file(pid_t pid, const char *name, char *buf, size_t len)
{
	char path[64];
	size_t have = 0;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && have < len - 1) {
		ssize_t n = read(fd, buf + have, len - 1 - have);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	if (fd >= 0)
		close(fd);
	buf[have] = '\0';
	return have;
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(a, b);
}

bool proc_fds(pid_t pid, struct fd_list *list)
{
	char path[64] = "/proc/self/fd";
	struct dirent *entry;
	DIR *dir;

	list->count = 0;
	list->texts = NULL;
	if (pid)
		snprintf(path, sizeof path, "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while ((entry = readdir(dir))) {
		char target[400] = "?";
		ssize_t n;

		if (entry->d_name[0] == '.' || (!pid && atoi(entry->d_name) == dirfd(dir)))
			continue;
		n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
		if (n >= 0)
			target[n] = '\0';
		list->texts = realloc(list->texts, (list->count + 1) * sizeof *list->texts);
		if (!list->texts)
			abort();
		snprintf(list->texts[list->count++], sizeof *list->texts, "%.16s %s", entry->d_name,
			 target);
	}
	closedir(dir);
	if (list->count)
		qsort(list->texts, list->count, sizeof *list->texts, compare_texts);
	return true;
}

void proc_fds_free(struct fd_list *list)
{
	free(list->texts);
	list->texts = NULL;
	list->count = 0;
}

bool proc_fds_has(const struct fd_list *list, const char *text)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->texts[i], text) == 0)
			return true;
	return false;
}

bool proc_has_mark(pid_t pid, const char *mark)
{
	/* Large enough: tests that pass large environments put the mark first. */
	char buf[65536];
	size_t len = read_file(pid, "environ", buf, sizeof buf);
	size_t mark_len = strlen(mark);

	for (size_t at = 0; at < len; at += strlen(buf + at) + 1)
		if (strncmp(buf + at, mark, mark_len) == 0)
			return true;
	return false;
}

size_t proc_marked(const char *mark, bool shepherds, pid_t *pids, size_t max)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t count = 0;

	if (!dir)
		abort();
	while ((entry = readdir(dir))) {
		pid_t pid = (pid_t)atoi(entry->d_name);

		if (pid <= 0 || !proc_has_mark(pid, mark))
			continue;
		if (!shepherds && proc_is_shepherd(pid))
			continue;
		if (count < max)
			pids[count] = pid;
		count++;
	}
	closedir(dir);
	return count;
}

/* The fields of /proc/PID/stat that follow the command's name. */
static bool read_stat(pid_t pid, char *state, pid_t *parent)
{
	char buf[1024];
	const char *end;

	read_file(pid, "stat", buf, sizeof buf);
	end = strrchr(buf, ')');
	return end && sscanf(end + 1, " %c %d", state, parent) == 2;
}

pid_t proc_parent(pid_t pid)
{
	pid_t parent;
	char state;

	return read_stat(pid, &state, &parent) ? parent : 0;
}

char proc_state(pid_t pid)
{
	pid_t parent;
	char state;

	return read_stat(pid, &state, &parent) ? state : 0;
}

bool proc_is_stopped(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	bool all = true;
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (all && (entry = readdir(dir)))
		all = entry->d_name[0] == '.' || proc_state((pid_t)atoi(entry->d_name)) == 'T';
	closedir(dir);
	return all;
}

bool proc_is_shepherd(pid_t pid)
{
	char path[64];
	char target[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	n = readlink(path, target, sizeof target - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return strstr(target, "/netrunner-shepherd") != NULL;
}

void proc_describe(pid_t pid, char *buf, size_t len)
{
	char command[200];
	size_t n = read_file(pid, "cmdline", command, sizeof command);

	for (size_t i = 0; i + 1 < n; i++)
		if (command[i] == '\0')
			command[i] = ' ';
	snprintf(buf, len, "%d (%s)", pid, command);
}

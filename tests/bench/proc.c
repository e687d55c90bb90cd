/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "proc.h"

_Noreturn void fail(const char *what, int64_t error)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
		strerror((int)(error < 0 ? -error : error)));
	exit(1);
}

int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

long number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n < 0)
		fail(text, EINVAL);
	return n;
}

pid_t parent_of(pid_t pid)
{
	char path[64], text[512];
	int fd, parent = 0;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	if (strrchr(text, ')'))
		sscanf(strrchr(text, ')') + 1, " %*c %d", &parent);
	return parent;
}

void allow_descriptors(unsigned n)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (setrlimit(RLIMIT_NOFILE,
		      &(struct rlimit){ .rlim_cur = n > limit.rlim_max ? n : limit.rlim_max,
					.rlim_max = n > limit.rlim_max ? n : limit.rlim_max }) == 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void touch_memory(long mib)
{
	size_t size = (size_t)mib << 20;
	void *memory;

	if (mib == 0)
		return;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap", errno);
	memset(memory, 1, size);
}

long private_kib(pid_t pid)
{
	char path[64], line[128];
	long sum = 0, n;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
	file = fopen(path, "re");
	if (!file)
		fail(path, errno);
	while (fgets(line, sizeof line, file))
		if (sscanf(line, "Private_Clean: %ld", &n) == 1 ||
		    sscanf(line, "Private_Dirty: %ld", &n) == 1)
			sum += n;
	fclose(file);
	return sum;
}

long context_switches(pid_t pid)
{
	char path[300], line[128];
	long sum = 0, n;
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof path, "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		FILE *status;

		if (entry->d_name[0] == '.') /* "..": the whole process */
			continue;
		snprintf(path, sizeof path, "/proc/%d/task/%s/status", pid, entry->d_name);
		status = fopen(path, "re");
		while (status && fgets(line, sizeof line, status))
			if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1 ||
			    sscanf(line, "nonvoluntary_ctxt_switches: %ld", &n) == 1)
				sum += n;
		if (status)
			fclose(status);
	}
	if (tasks)
		closedir(tasks);
	return sum;
}

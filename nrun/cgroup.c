/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nrun.h"

/* What root uses, who needs nobody's permission. */
static const char roots[] = "netrunner";

/* Where cgroup2 is mounted, and which group is seen there. */
static bool find_mount(char *mount, char *top)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	while (f && !found && getline(&line, &size, f) > 0)
		found = strstr(line, " - cgroup2 ") &&
			sscanf(line, "%*s %*s %*s %4095s %4095s", top, mount) == 2;
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* Our own group, as a path below the mount; "" is the mount itself. */
static bool find_own(const char *top, char *own)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char *line = NULL;
	size_t size = 0, length = strlen(top);
	bool found = false;

	if (length == 1)
		length = 0; /* "/" */
	while (f && !found && getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, "0::", 3) == 0 && strncmp(line + 3, top, length) == 0 &&
			strncmp(line + 3, "/..", 3) != 0;
		if (found)
			snprintf(own, PATH_MAX, "%s",
				 line[3 + length] == '/' ? line + 4 + length : line + 3 + length);
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

static bool may_use(const char *mount, const char *group)
{
	static const char *const files[] = { "", "/cgroup.procs", "/cgroup.subtree_control" };
	char path[3 * PATH_MAX];

	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "%s/%s%s", mount, group, files[i]);
		if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
			return false;
	}
	return true;
}

/* Is nobody else in it? */
static bool alone_in(const char *mount, const char *group)
{
	char path[3 * PATH_MAX];
	FILE *f;
	int pid, others = 0;

	snprintf(path, sizeof path, "%s/%s/cgroup.procs", mount, group);
	f = fopen(path, "re");
	while (f && fscanf(f, "%d", &pid) == 1)
		others += pid != getpid();
	if (f)
		fclose(f);
	return f && others == 0;
}

/* A group that hands controllers down may have no process of its own: us. */
static bool move_below(const char *mount, const char *group)
{
	char path[3 * PATH_MAX];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s/nrun", mount, group);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return false;
	strcat(path, "/cgroup.procs");
	f = fopen(path, "we");
	if (!f)
		return false;
	fprintf(f, "%d", getpid());
	return fclose(f) == 0;
}

const char *find_cgroup(void)
{
	static char own[PATH_MAX];
	char mount[4096], top[4096], *slash;

	if (geteuid() == 0 || !find_mount(mount, top))
		return roots; /* without a mount the library says so */
	if (!find_own(top, own)) {
		say("cgroup: this process is in none that is below %s: name one with --cgroup",
		    mount);
		return NULL;
	}
	/* The group of a delegated subtree that is above ours. */
	slash = strrchr(own, '/');
	if (slash) {
		*slash = '\0';
		if (may_use(mount, own))
			return own;
		*slash = '/';
	}
	/* Or our own, as systemd-run makes one for us alone. */
	if (*own && may_use(mount, own) && alone_in(mount, own) && move_below(mount, own))
		return own;
	say("cgroup: no group that this user may use: neither /%s, of this process, with nobody "
	    "else in it, nor the one above. Try: systemd-run --user --scope -p Delegate=yes nrun "
	    "...",
	    own);
	return NULL;
}

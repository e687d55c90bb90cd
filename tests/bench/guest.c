/* SPDX-License-Identifier: Apache-2.0 */

/*
 * guest - what the library costs the process that uses it: time to load, time
 * of the first calls, threads, memory, descriptors, and what it does when
 * nothing happens.
 *
 *     guest [-n PROCESSES] [-s SECONDS]
 *
 * Each of PROCESSES (20) fresh processes loads the library by dlopen(3) and
 * starts programs; the medians are printed, and the least. Then one with 10 programs that do
 * nothing is watched for SECONDS (30).
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "netrunner.h"

enum { IDLE_PROGRAMS = 10, MOST = 1000 };

enum {
	LOADING,
	FIRST_CALL,
	SECOND_CALL,
	THREADS_ADDED,
	DESCRIPTORS_ADDED,
	PRIVATE_LOADED,
	PRIVATE_USED,
	PRIVATE_AFTER_1000,
	MEASURED
};

static const struct {
	const char *name;
	const char *unit;
	double scale;
} measures[MEASURED] = {
	{ "dlopen", "ms", 1e6 },
	{ "first nr_spawn", "ms", 1e6 },
	{ "second nr_spawn", "ms", 1e6 },
	{ "threads added", "", 1 },
	{ "descriptors added", "", 1 },
	{ "private memory, loaded", "KiB", 1 },
	{ "private memory, one program run", "KiB", 1 },
	{ "private memory, 1000 run", "KiB", 1 },
};

static __typeof__(nr_spawn) *spawn;
static __typeof__(nr_wait) *await;
static __typeof__(nr_release) *release;

static void fail(const char *what)
{
	fprintf(stderr, "guest: %s\n", what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Of /proc/self/FILE, the number behind KEY. */
static uint64_t number_of(const char *file, const char *key)
{
	char line[256];
	uint64_t number = 0;
	FILE *f = fopen(file, "re");

	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, key, strlen(key)) == 0)
			number += strtoull(line + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return number;
}

static uint64_t private_memory(void)
{
	return number_of("/proc/self/smaps_rollup", "Private_Clean:") +
	       number_of("/proc/self/smaps_rollup", "Private_Dirty:");
}

static uint64_t entries(const char *path)
{
	DIR *d = opendir(path);
	uint64_t count = 0;

	while (d && readdir(d))
		count++;
	if (d)
		closedir(d);
	return count;
}

static void load(void)
{
	void *library = dlopen("libnetrunner.so", RTLD_NOW);

	if (!library)
		fail(dlerror());
	spawn = (__typeof__(spawn))dlsym(library, "nr_spawn");
	await = (__typeof__(await))dlsym(library, "nr_wait");
	release = (__typeof__(release))dlsym(library, "nr_release");
}

static nr_proc start(const char *const *argv)
{
	nr_options o = { .size = sizeof o, .argv = argv };
	char why[256];
	nr_proc p = spawn(&o, why, sizeof why);

	if (p < 0)
		fail(why);
	return p;
}

static uint64_t time_of_call(void)
{
	const char *const argv[] = { "/bin/true", NULL };
	uint64_t begin = now_ns();
	nr_proc p = start(argv);
	uint64_t took = now_ns() - begin;

	await(p, -1, NULL);
	release(p);
	return took;
}

/* In a fresh process. */
static void measure(uint64_t results[MEASURED])
{
	uint64_t threads = entries("/proc/self/task");
	uint64_t descriptors = entries("/proc/self/fd");
	uint64_t before = private_memory();
	uint64_t begin = now_ns();

	load();
	results[LOADING] = now_ns() - begin;
	results[PRIVATE_LOADED] = private_memory() - before;
	results[FIRST_CALL] = time_of_call();
	results[SECOND_CALL] = time_of_call();
	results[THREADS_ADDED] = entries("/proc/self/task") - threads;
	results[DESCRIPTORS_ADDED] = entries("/proc/self/fd") - descriptors;
	results[PRIVATE_USED] = private_memory() - before;
	for (int i = 0; i < 1000; i++)
		time_of_call();
	results[PRIVATE_AFTER_1000] = private_memory() - before;
}

/* Of all threads but this one. */
static uint64_t context_switches(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *entry;
	uint64_t count = 0;
	char path[300];

	while (d && (entry = readdir(d))) {
		if (*entry->d_name == '.' || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
		count += number_of(path, "voluntary_ctxt_switches:");
		count += number_of(path, "nonvoluntary_ctxt_switches:");
	}
	if (d)
		closedir(d);
	return count;
}

static void idle(unsigned seconds)
{
	const char *const argv[] = { "sleep", "1000000", NULL };
	uint64_t before;

	load();
	for (int i = 0; i < IDLE_PROGRAMS; i++)
		start(argv);
	sleep(5);
	before = context_switches();
	sleep(seconds);
	printf("%-36s %8" PRIu64 " in %u s\n", "context switches, idle",
	       context_switches() - before, seconds);
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int main(int argc, char **argv)
{
	static uint64_t results[MEASURED][MOST];
	unsigned processes = 20, seconds = 30;
	int option;

	while ((option = getopt(argc, argv, "n:s:")) != -1) {
		if (option == 'n')
			processes = (unsigned)atoi(optarg);
		else if (option == 's')
			seconds = (unsigned)atoi(optarg);
	}
	if (processes < 1 || processes > MOST)
		fail("1 to 1000 processes");
	for (unsigned i = 0; i < processes; i++) {
		uint64_t one[MEASURED];
		int ends[2];
		pid_t pid;

		if (pipe(ends) != 0 || (pid = fork()) < 0)
			fail("fork");
		if (pid == 0) {
			measure(one);
			_exit(write(ends[1], one, sizeof one) != sizeof one);
		}
		close(ends[1]);
		if (read(ends[0], one, sizeof one) != sizeof one)
			fail("a process failed");
		close(ends[0]);
		waitpid(pid, NULL, 0);
		for (int m = 0; m < MEASURED; m++)
			results[m][i] = one[m];
	}
	for (int m = 0; m < MEASURED; m++) {
		qsort(results[m], processes, sizeof results[m][0], compare);
		int digits = measures[m].scale > 1 ? 2 : 0;

		printf("%-36s %8.*f (%.*f) %s\n", measures[m].name, digits,
		       (double)results[m][processes / 2] / measures[m].scale, digits,
		       (double)results[m][0] / measures[m].scale, measures[m].unit);
	}
	fflush(stdout);
	idle(seconds);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The job of job.h in GLib's main loop, which is also that of GTK. Not by
 * g_spawn_async() and GIOChannel: GLib's sources for descriptors are enough.
 */

#include "job.h"

#include <glib-unix.h>
#include <stdlib.h>

static GMainLoop *loop;
static int watched;

struct watch {
	struct job *job;
	int stream;
};

static gboolean on_ready(gint fd, GIOCondition condition, gpointer data)
{
	struct watch *w = data;

	(void)fd;
	(void)condition;
	return job_ready(w->job, w->stream) ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* Called when the source has been removed. */
static void on_removed(gpointer data)
{
	struct watch *w = data;

	job_close(w->job, w->stream);
	if (--watched == 0)
		g_main_loop_quit(loop);
}

int main(int argc, char **argv)
{
	struct arguments a = job_arguments(argc, argv);
	struct job *jobs = g_new0(struct job, a.n);
	struct watch *watches = g_new0(struct watch, a.n * JOB_STREAMS);
	int failed = 0;

	loop = g_main_loop_new(NULL, FALSE);
	for (int i = 0; i < a.n; i++) {
		if (!job_start(&jobs[i], &a, i)) {
			failed++;
			continue;
		}
		for (int s = 0; s < JOB_STREAMS; s++) {
			struct watch *w = &watches[i * JOB_STREAMS + s];
			*w = (struct watch){ &jobs[i], job_streams[s] };
			/* Hang-ups and errors are only told to those who ask. */
			g_unix_fd_add_full(G_PRIORITY_DEFAULT, nr_fd(jobs[i].p, w->stream),
					   (w->stream == NR_STDIN ? G_IO_OUT : G_IO_IN) | G_IO_HUP |
						   G_IO_ERR,
					   on_ready, w, on_removed);
			watched++;
		}
	}

	if (watched > 0)
		g_main_loop_run(loop);

	for (int i = 0; i < a.n; i++)
		failed += jobs[i].failed;
	g_main_loop_unref(loop);
	g_free(watches);
	g_free(jobs);
	return failed > 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The job of job.h in libev's loop.
 */

#include "job.h"

#include <ev.h>
#include <stdlib.h>

struct watch {
	ev_io io;
	struct job *job;
	int stream;
};

static void on_ready(struct ev_loop *loop, ev_io *io, int events)
{
	struct watch *w = (struct watch *)io; /* its first member */

	(void)events;
	if (job_ready(w->job, w->stream))
		return;
	ev_io_stop(loop, io);
	job_close(w->job, w->stream);
}

int main(int argc, char **argv)
{
	struct arguments a = job_arguments(argc, argv);
	struct job *jobs = calloc((size_t)a.n, sizeof *jobs);
	struct watch *watches = calloc((size_t)a.n * JOB_STREAMS, sizeof *watches);
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
	int failed = 0;

	if (!jobs || !watches || !loop)
		return 1;
	for (int i = 0; i < a.n; i++) {
		if (!job_start(&jobs[i], &a, i)) {
			failed++;
			continue;
		}
		for (int s = 0; s < JOB_STREAMS; s++) {
			struct watch *w = &watches[i * JOB_STREAMS + s];
			w->job = &jobs[i];
			w->stream = job_streams[s];
			ev_io_init(&w->io, on_ready, nr_fd(jobs[i].p, w->stream),
				   w->stream == NR_STDIN ? EV_WRITE : EV_READ);
			ev_io_start(loop, &w->io);
		}
	}

	ev_run(loop, 0); /* until nothing is watched */

	for (int i = 0; i < a.n; i++)
		failed += jobs[i].failed;
	ev_loop_destroy(loop);
	free(watches);
	free(jobs);
	return failed > 0;
}

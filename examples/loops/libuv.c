/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The job of job.h in libuv's loop. Not by uv_pipe_t, which would read ahead by
 * itself and own the descriptor, but by uv_poll_t, which only watches it.
 */

#define _POSIX_C_SOURCE 200809L /* for uv.h */
#include "job.h"

#include <stdlib.h>
#include <uv.h>

struct watch {
	uv_poll_t handle;
	struct job *job;
	int stream;
};

static void on_ready(uv_poll_t *handle, int status, int events)
{
	struct watch *w = handle->data;

	/*
	 * EBADF is what libuv makes of POLLERR, the sign that a program has closed
	 * its stdin. It is ready, too: the call tells.
	 */
	(void)status;
	(void)events;
	if (job_ready(w->job, w->stream))
		return;
	uv_poll_stop(handle);
	uv_close((uv_handle_t *)handle, NULL);
	job_close(w->job, w->stream);
}

int main(int argc, char **argv)
{
	struct arguments a = job_arguments(argc, argv);
	struct job *jobs = calloc((size_t)a.n, sizeof *jobs);
	struct watch *watches = calloc((size_t)a.n * JOB_STREAMS, sizeof *watches);
	uv_loop_t *loop = uv_default_loop();
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
			w->handle.data = w;
			if (uv_poll_init(loop, &w->handle, nr_fd(jobs[i].p, w->stream)) < 0 ||
			    uv_poll_start(&w->handle,
					  w->stream == NR_STDIN ? UV_WRITABLE : UV_READABLE,
					  on_ready) < 0)
				return 1; /* the programs end with this process */
		}
	}

	uv_run(loop, UV_RUN_DEFAULT); /* until the last handle is closed */

	for (int i = 0; i < a.n; i++)
		failed += jobs[i].failed;
	uv_loop_close(loop);
	free(watches);
	free(jobs);
	return failed > 0;
}

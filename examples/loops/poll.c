/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The job of job.h in a loop of poll(2). A descriptor of -1 is not looked at.
 */

#include "job.h"

#include <poll.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	struct arguments a = job_arguments(argc, argv);
	struct job *jobs = calloc((size_t)a.n, sizeof *jobs);
	struct pollfd *watched = calloc((size_t)a.n * JOB_STREAMS, sizeof *watched);
	int open = 0, failed = 0;

	if (!jobs || !watched)
		return 1;
	for (int i = 0; i < a.n; i++) {
		bool started = job_start(&jobs[i], &a, i);
		for (int s = 0; s < JOB_STREAMS; s++)
			watched[i * JOB_STREAMS + s] = (struct pollfd){
				.fd = started ? nr_fd(jobs[i].p, job_streams[s]) : -1,
				.events = job_streams[s] == NR_STDIN ? POLLOUT : POLLIN,
			};
		open += started ? JOB_STREAMS : 0;
		failed += !started;
	}

	while (open > 0) {
		if (poll(watched, (nfds_t)(a.n * JOB_STREAMS), -1) < 0)
			continue; /* EINTR */
		for (int w = 0; w < a.n * JOB_STREAMS; w++) {
			struct job *j = &jobs[w / JOB_STREAMS];
			int stream = job_streams[w % JOB_STREAMS];
			/* POLLHUP and POLLERR, too: the call tells which. */
			if (!watched[w].revents || job_ready(j, stream))
				continue;
			watched[w].fd = -1;
			job_close(j, stream);
			open--;
		}
	}

	for (int i = 0; i < a.n; i++)
		failed += jobs[i].failed;
	free(watched);
	free(jobs);
	return failed > 0;
}

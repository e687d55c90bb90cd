/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The job of job.h in a loop of epoll(7), level triggered. Edge triggered it
 * would have to call job_ready() until nr_read() or nr_write() is -EAGAIN.
 */

#include "job.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct arguments a = job_arguments(argc, argv);
	struct job *jobs = calloc((size_t)a.n, sizeof *jobs);
	int loop = epoll_create1(EPOLL_CLOEXEC);
	int open = 0, failed = 0;

	if (!jobs || loop < 0)
		return 1;
	for (int i = 0; i < a.n; i++) {
		if (!job_start(&jobs[i], &a, i)) {
			failed++;
			continue;
		}
		for (int s = 0; s < JOB_STREAMS; s++) {
			struct epoll_event e = {
				.events = job_streams[s] == NR_STDIN ? EPOLLOUT : EPOLLIN,
				.data.u32 = (uint32_t)(i * JOB_STREAMS + s),
			};
			int fd = nr_fd(jobs[i].p, job_streams[s]);
			if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e) < 0) {
				perror("epoll_ctl");
				return 1; /* the programs end with this process */
			}
			open++;
		}
	}

	while (open > 0) {
		struct epoll_event ready[16];
		int n = epoll_wait(loop, ready, 16, -1);

		for (int r = 0; r < n; r++) { /* n is -1 after EINTR */
			struct job *j = &jobs[ready[r].data.u32 / JOB_STREAMS];
			int stream = job_streams[ready[r].data.u32 % JOB_STREAMS];
			if (job_ready(j, stream))
				continue;
			/* A copy of the descriptor that a fork has would stay in there. */
			epoll_ctl(loop, EPOLL_CTL_DEL, nr_fd(j->p, stream), NULL);
			job_close(j, stream);
			open--;
		}
	}

	for (int i = 0; i < a.n; i++)
		failed += jobs[i].failed;
	close(loop);
	free(jobs);
	return failed > 0;
}

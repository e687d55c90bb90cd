/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "nrun.h"

static struct termios before; /* our terminal, as we found it */
static bool raw;

/* TCSADRAIN, not TCSAFLUSH: what was typed ahead is not to be lost. */
void terminal_raw(void)
{
	static bool registered;
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return; /* no terminal */
	if (!registered)
		registered = atexit(terminal_restore) == 0; /* no way out can forget it */
	t = before;
	cfmakeraw(&t);
	raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0;
}

void terminal_restore(void)
{
	sigset_t set, saved;

	if (!raw)
		return;
	raw = false;
	/* In the background this would stop us, and leave the terminal as it is. */
	sigemptyset(&set);
	sigaddset(&set, SIGTTOU);
	sigprocmask(SIG_BLOCK, &set, &saved);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	sigprocmask(SIG_SETMASK, &saved, NULL);
}

bool terminal_size(uint16_t *rows, uint16_t *cols)
{
	struct winsize w;

	for (int fd = 0; fd <= 2; fd++) {
		if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_row > 0 && w.ws_col > 0) {
			*rows = w.ws_row;
			*cols = w.ws_col;
			return true;
		}
	}
	return false;
}

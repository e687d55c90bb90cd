/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "../include/netrunner.h"

struct error {
	const char *name;
	const char *text;
};

static const struct error errors[] = {
	[0] = { "0", "Success" },
#define ERROR(name, text) [name] = { #name, text },
#include "errors.inc"
#undef ERROR
};

/* Takes both signs, INT_MIN too. */
static const struct error *find(int err)
{
	static const struct error unknown = { "EUNKNOWN", "Unknown error" };
	unsigned number = err < 0 ? 0u - (unsigned)err : (unsigned)err;
	bool known = number < sizeof errors / sizeof *errors && errors[number].name;
	return known ? &errors[number] : &unknown;
}

const char *nr_errname(int err)
{
	return find(err)->name;
}

const char *nr_strerror(int err)
{
	return find(err)->text;
}

uint32_t nr_version(void)
{
	return NR_VERSION;
}

#define TEXT(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *nr_version_string(void)
{
	return VERSION_TEXT(NR_VERSION_MAJOR, NR_VERSION_MINOR, NR_VERSION_PATCH);
}

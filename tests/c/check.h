/* SPDX-License-Identifier: Apache-2.0 */

/*
 * check.h - the harness of the C tests.
 *
 *     TEST(addition)
 *     {
 *             CHECK_EQ_INT(1 + 1, 2);
 *     }
 *
 * All tests of a program run one after the other in one process, in the order
 * of the file, so they share one shepherd as they would in a real host. After
 * each test the harness checks that it left nothing: no descriptor, no zombie,
 * no process.
 *
 *     test_x [-l] [-n COUNT] [NAME...]     -l lists; a NAME may be a pattern
 *
 * CHECK... note a failure and go on; REQUIRE... leave the test. A test may be
 * left at any place, so what it must not leave behind is given to the harness:
 * see check_alloc, check_defer and scratch().
 *
 * HOST(name) { } is a program of its own: a host process in which nothing has
 * called the library yet. support.h starts it. It fails by its exit code.
 */

#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proc.h"

struct check_item {
	const char *name;
	void (*test)(void);
	void (*host)(int argc, char **argv);
	struct check_item *next;
};

void check_register(struct check_item *item);

#define CHECK_REGISTER(kind, id)                                               \
	static struct check_item check_##kind##_item_##id = {                  \
		.name = #id,                                                   \
		.kind = check_##kind##_##id,                                   \
	};                                                                     \
	__attribute__((constructor)) static void check_##kind##_add_##id(void) \
	{                                                                      \
		check_register(&check_##kind##_item_##id);                     \
	}

#define TEST(id)                           \
	static void check_test_##id(void); \
	CHECK_REGISTER(test, id)           \
	static void check_test_##id(void)

/* argv[0] is the host's name, the rest are the arguments of host_start(). */
#define HOST(id)                                                      \
	static void check_host_##id(int argc, char **argv);           \
	CHECK_REGISTER(host, id)                                      \
	static void check_host_##id(__attribute__((unused)) int argc, \
				    __attribute__((unused)) char **argv)

/*
 * All are expressions, true if the check holds. The format and its arguments,
 * which may be left out, tell which of many cases it was.
 */
#define CHECK(cond, ...) check_true((cond), false, __FILE__, __LINE__, #cond, " " __VA_ARGS__)
#define REQUIRE(cond, ...) check_true((cond), true, __FILE__, __LINE__, #cond, " " __VA_ARGS__)
#define CHECK_EQ_INT(actual, expected, ...) \
	check_int((actual), (expected), false, __FILE__, __LINE__, #actual, " " __VA_ARGS__)
#define REQUIRE_EQ_INT(actual, expected, ...) \
	check_int((actual), (expected), true, __FILE__, __LINE__, #actual, " " __VA_ARGS__)
#define CHECK_STR(actual, expected, ...) \
	check_str((actual), (expected), false, __FILE__, __LINE__, #actual, " " __VA_ARGS__)
#define REQUIRE_STR(actual, expected, ...) \
	check_str((actual), (expected), true, __FILE__, __LINE__, #actual, " " __VA_ARGS__)
#define CHECK_MEM(actual, len, expected, expected_len, ...)                                 \
	check_mem((actual), (len), (expected), (expected_len), __FILE__, __LINE__, #actual, \
		  " " __VA_ARGS__)

/* Contains the text, in upper or lower case. */
#define CHECK_CONTAINS(text, part, ...) \
	check_contains((text), (part), __FILE__, __LINE__, #text, " " __VA_ARGS__)

/* Ends the test. A skipped test is counted, and says why. */
#define SKIP(...) check_skip(__VA_ARGS__)

/*
 * EVENTUALLY(cond); polls until the condition holds. That it never does is a
 * failure, after so long that no slow machine is mistaken for a bug.
 */
#define EVENTUALLY(cond)                                                           \
	for (int64_t until_ = check_now_ms() + check_patience_ms();                \
	     !(cond) && CHECK(check_nap(until_), "never became true: %s", #cond);) \
	continue

bool check_true(bool holds, bool fatal, const char *file, int line, const char *expr,
		const char *format, ...) __attribute__((format(printf, 6, 7)));
bool check_int(long long actual, long long expected, bool fatal, const char *file, int line,
	       const char *expr, const char *format, ...) __attribute__((format(printf, 7, 8)));
bool check_str(const char *actual, const char *expected, bool fatal, const char *file, int line,
	       const char *expr, const char *format, ...) __attribute__((format(printf, 7, 8)));
bool check_mem(const void *actual, size_t len, const void *expected, size_t expected_len,
	       const char *file, int line, const char *expr, const char *format, ...)
	__attribute__((format(printf, 8, 9)));
bool check_contains(const char *text, const char *part, const char *file, int line,
		    const char *expr, const char *format, ...)
	__attribute__((format(printf, 6, 7)));
_Noreturn void check_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether a check of the running test has failed. */
bool check_has_failed(void);

/* The name of the running test or host. */
const char *check_name(void);

/* "NR_TEST_MARK=..." of the running test; see proc.h. */
const char *check_mark(void);

/*
 * check_patience_ms is how long to wait for what must happen: 30 s, times
 * $NR_TEST_SCALE on machines that are slower than usual, such as emulators.
 * check_nap waits a moment, and is false if until has passed.
 */
int64_t check_now_ms(void);
int64_t check_patience_ms(void);
bool check_nap(int64_t until);

/* Zeroed memory until the end of the test. check_grow is its realloc. */
void *check_alloc(size_t len) __attribute__((returns_nonnull));
void *check_grow(void *memory, size_t len) __attribute__((returns_nonnull));
char *check_format(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* Calls undo(arg) at the end of the test, the last first, also after failures. */
void check_defer(void (*undo)(void *arg), void *arg);

/*
 * To be defined by what the tests share: brings the process to the state in
 * which a test must leave it.
 */
void check_warm_up(void);

#endif /* CHECK_H */

/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A handle: 43 bits of generation, 20 of index. */
enum { INDEX_BITS = 20, CHUNK = 64, CHUNKS = (1 << INDEX_BITS) / CHUNK };

/* A gate: 40 bits of generation, 1 that it is closed, 23 of calls inside. */
#define GATE_INSIDE ((UINT64_C(1) << 23) - 1)
#define GATE_CLOSED (UINT64_C(1) << 23)
#define GATE_GENERATION_SHIFT 24

static struct nr_slot *_Atomic chunks[CHUNKS];
static _Atomic uint32_t slots;
static struct nr_slot *free_slots;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t generation(struct nr_slot *slot)
{
	return atomic_load_explicit(&slot->gate[NR_EXIT], memory_order_relaxed) >>
	       GATE_GENERATION_SHIFT;
}

static void set_gates(struct nr_slot *slot, uint64_t generation, uint64_t closed)
{
	for (int i = 0; i < NR_GATES; i++)
		atomic_store_explicit(&slot->gate[i], generation << GATE_GENERATION_SHIFT | closed,
				      memory_order_release);
}

static struct nr_slot *slot_at(uint32_t index)
{
	struct nr_slot *chunk = atomic_load_explicit(&chunks[index / CHUNK], memory_order_acquire);
	return &chunk[index % CHUNK];
}

/* Called with the mutex held. */
static struct nr_slot *new_slot(void)
{
	uint32_t index = atomic_load(&slots);
	if (index >> INDEX_BITS)
		return NULL;
	if (index % CHUNK == 0) {
		struct nr_slot *chunk = calloc(CHUNK, sizeof *chunk);
		if (!chunk)
			return NULL;
		atomic_store_explicit(&chunks[index / CHUNK], chunk, memory_order_release);
	}
	struct nr_slot *slot = slot_at(index);
	slot->index = index;
	for (int i = 0; i < NR_GATES; i++)
		slot->fd[i] = -1;
	pthread_mutex_init(&slot->limit_mutex, NULL);
	pthread_mutex_init(&slot->report_mutex, NULL);
	set_gates(slot, 0, GATE_CLOSED);
	atomic_store_explicit(&slots, index + 1, memory_order_release);
	return slot;
}

nr_proc nr_table_reserve(struct nr_slot **out)
{
	pthread_mutex_lock(&mutex);
	struct nr_slot *slot = free_slots;
	if (slot)
		free_slots = slot->next_free;
	else
		slot = new_slot();
	pthread_mutex_unlock(&mutex);
	if (!slot)
		return -ENOMEM;

	uint64_t next = generation(slot) + 1;
	set_gates(slot, next, GATE_CLOSED);
	memset(slot->terminal, 0, sizeof slot->terminal);
	slot->output_limit = 0;
	for (int i = 0; i < 3; i++) {
		atomic_store(&slot->bytes[i], 0);
		atomic_store(&slot->unbroken[i], 0);
		atomic_store(&slot->grown[i], false);
	}
	atomic_store(&slot->reads, 0);
	atomic_store(&slot->writes, 0);
	atomic_store(&slot->last_typed, 0);
	atomic_store(&slot->limit_reached, false);
	atomic_store(&slot->final, false);
	memset(&slot->report, 0, sizeof slot->report);
	*out = slot;
	return (nr_proc)(next << INDEX_BITS | slot->index);
}

void nr_table_publish(nr_proc p, struct nr_slot *slot)
{
	atomic_store(&slot->open_gates, NR_GATES);
	set_gates(slot, (uint64_t)p >> INDEX_BITS, 0);
}

void nr_table_unreserve(struct nr_slot *slot)
{
	pthread_mutex_lock(&mutex);
	slot->next_free = free_slots;
	free_slots = slot;
	pthread_mutex_unlock(&mutex);
}

int nr_table_enter(nr_proc p, int gate, struct nr_slot **out)
{
	uint64_t wanted = (uint64_t)p >> INDEX_BITS;
	uint32_t index = (uint32_t)p & ((1u << INDEX_BITS) - 1);
	if (p <= 0 || index >= atomic_load_explicit(&slots, memory_order_acquire))
		return -EBADF;
	struct nr_slot *slot = slot_at(index);
	uint64_t word = atomic_load_explicit(&slot->gate[gate], memory_order_relaxed);
	do {
		if (word >> GATE_GENERATION_SHIFT != wanted)
			return -EBADF;
		if (word & GATE_CLOSED) {
			/* A process whose exit gate is closed has been released. */
			uint64_t exit = atomic_load(&slot->gate[NR_EXIT]);
			bool released = exit >> GATE_GENERATION_SHIFT != wanted ||
					exit & GATE_CLOSED;
			return released ? -EBADF : -EPIPE;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&slot->gate[gate], &word, word + 1, memory_order_acquire, memory_order_relaxed));
	*out = slot;
	return 0;
}

/*
 * The last call inside a closed gate closes the descriptor, and the last gate
 * frees the slot. A child that is forked at this moment must know whether the
 * descriptor is open.
 */
/*
 * A user's pipes may hold 64 MiB together, or each that is made from then on
 * holds two pages (pipe-user-pages-soft, in proc_sys_fs(5)). This many take a
 * quarter of that when they hold 256 KiB each.
 */
enum { GROWN_PIPES = 64 };
static _Atomic int grown_pipes;

bool nr_table_grow(struct nr_slot *slot, int stream)
{
	if (atomic_load(&grown_pipes) >= GROWN_PIPES || atomic_exchange(&slot->grown[stream], true))
		return false;
	atomic_fetch_add(&grown_pipes, 1);
	return true;
}

static void finish_gate(struct nr_slot *slot, int gate)
{
	if (gate < NR_EXIT && atomic_exchange(&slot->grown[gate], false))
		atomic_fetch_sub(&grown_pipes, 1);
	if (slot->fd[gate] >= 0) {
		nr_table_hold_fork();
		syscall(SYS_close, slot->fd[gate]); /* pthread_cancel(3) does not interrupt it */
		slot->fd[gate] = -1;
		nr_table_allow_fork();
	}
	if (atomic_fetch_sub(&slot->open_gates, 1) == 1)
		nr_table_unreserve(slot);
}

void nr_table_leave(struct nr_slot *slot, int gate)
{
	uint64_t before = atomic_fetch_sub_explicit(&slot->gate[gate], 1, memory_order_acq_rel);
	if (__builtin_expect((before & (GATE_INSIDE | GATE_CLOSED)) == (1 | GATE_CLOSED), 0))
		finish_gate(slot, gate);
}

bool nr_table_close(struct nr_slot *slot, int gate)
{
	return !(atomic_fetch_or(&slot->gate[gate], GATE_CLOSED) & GATE_CLOSED);
}

bool nr_table_is_closed(struct nr_slot *slot, int gate)
{
	return atomic_load(&slot->gate[gate]) & GATE_CLOSED;
}

enum { TRACKED = 256 };
static _Atomic int tracked[TRACKED]; /* fd + 1, 0: free */

void nr_table_track(int fd)
{
	for (int i = 0; i < TRACKED; i++) {
		int unused = 0;
		if (atomic_compare_exchange_strong(&tracked[i], &unused, fd + 1))
			return;
	}
}

void nr_table_close_tracked(int fd)
{
	for (int i = 0; i < TRACKED; i++) {
		int expected = fd + 1;
		if (atomic_compare_exchange_strong(&tracked[i], &expected, 0))
			break;
	}
	close(fd);
}

/* Those who spawn all the time must not keep a fork waiting. musl has one kind. */
#ifdef PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
#define UNLOCKED PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
#else
#define UNLOCKED PTHREAD_RWLOCK_INITIALIZER
#endif
static pthread_rwlock_t fork_lock = UNLOCKED;

void nr_table_hold_fork(void)
{
	pthread_rwlock_rdlock(&fork_lock);
}

void nr_table_allow_fork(void)
{
	pthread_rwlock_unlock(&fork_lock);
}

static void before_fork(void)
{
	pthread_rwlock_wrlock(&fork_lock);
}

static void after_fork_in_child(void)
{
	/* The process may have had threads: no other lock may be taken here. */
	uint32_t n = atomic_load(&slots);
	for (uint32_t i = 0; i < n; i++) {
		struct nr_slot *slot = slot_at(i);
		for (int gate = 0; gate < NR_GATES; gate++)
			if (slot->fd[gate] >= 0)
				close(slot->fd[gate]);
	}
	for (int i = 0; i < TRACKED; i++)
		if (atomic_load(&tracked[i]) > 0)
			close(atomic_load(&tracked[i]) - 1);
	/* The child's only thread has another id than the one that has the lock. */
	static const pthread_rwlock_t unlocked = UNLOCKED;
	fork_lock = unlocked;
}

int nr_table_at_fork(void)
{
	static bool done;
	int error = done ? 0
			 : pthread_atfork(before_fork, nr_table_allow_fork, after_fork_in_child);
	done = !error;
	return -error;
}

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Where level 2 counts: the maps, and how a thread, a wait or a descriptor finds its counters in them.
 */
#ifndef WHYSPIN_COUNT_H
#define WHYSPIN_COUNT_H

#include "kernel.h"
#include "evidence.h"

/* 1 entry per descriptor number; user space sets the size from the process's limit. 512 bytes each. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, struct descriptor);
} descriptors SEC(".maps");

/* An open-addressed table of threads, keyed by thread id. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, THREAD_SLOTS);
	__type(key, u32);
	__type(value, struct thread);
} threads SEC(".maps");

/* An open-addressed table of waits, keyed by thread id and epoll descriptor. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, SET_SLOTS);
	__type(key, u32);
	__type(value, struct wait_set);
} wait_sets SEC(".maps");

/*
 * Classic tracepoints only: what a thread's current call was given, at the index of the thread's slot.
 */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, THREAD_SLOTS);
	__type(key, u32);
	__type(value, struct saved_call);
} saved_calls SEC(".maps");

/*
 * What the data of events mean, for sets whose data are not descriptors. An entry outlives its
 * registration, because an event may still come for it (F6): it is only overwritten, and all go when the
 * window does. User space sets the size, twice the number of descriptors.
 */
struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(map_flags, MAP_NO_PREALLOC);
	__uint(max_entries, 2048);
	__type(key, struct registration_key);
	__type(value, struct registration);
} registrations SEC(".maps");

/* Where the process connected to. The first globals.state.destinations are taken. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, DESTINATIONS);
	__type(key, u32);
	__type(value, struct destination);
} destinations SEC(".maps");

/* The index of each destination in destinations. */
struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(map_flags, MAP_NO_PREALLOC);
	__uint(max_entries, DESTINATIONS);
	__type(key, struct destination_key);
	__type(value, u32);
} destination_slots SEC(".maps");

struct event_chunk {
	struct user_epoll_event events[CHUNK_EVENTS];
};

/* The chunk of delivered events being looked at on this CPU. */
struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct event_chunk);
} event_chunks SEC(".maps");

/*
 * One variable, so that user space finds everything at its offset in one mapping. What is written for
 * other processes' calls (nothing) and what is read for them (control) share no cache line with what
 * this process's calls write.
 */
struct count_globals {
	struct count_control control;
	u8 padding[48];
	struct losses losses;
	struct count_state state;
	u8 padding2[40];
	/*
	 * 1: something was counted for one of TOUCHED_BLOCK descriptors, from index * TOUCHED_BLOCK.
	 */
	u8 touched[MAX_DESCRIPTORS / TOUCHED_BLOCK];
};

struct count_globals globals __attribute__((aligned(64))) = {};

/* A system call at its exit. */
struct call {
	u64 nr;
	s64 result;
	u64 args[6];
	bool blind; /* the arguments are not known */
};

static __always_inline void add32(u32 *counter, u32 n)
{
	__sync_fetch_and_add(counter, n);
}

static __always_inline void add64(u64 *counter, u64 n)
{
	__sync_fetch_and_add(counter, n);
}

static __always_inline bool is_counted(struct task_struct *task)
{
	u32 tgid = *(volatile u32 *)&globals.control.tgid;

	return (u32)task->tgid == tgid;
}

/*
 * The counters of a descriptor number; NULL when there are none, which is counted unless it is no
 * number at all.
 */
static __always_inline struct descriptor *descriptor_at(s32 fd)
{
	u32 index = fd;
	struct descriptor *descriptor;

	if (fd < 0)
		return NULL;
	descriptor = bpf_map_lookup_elem(&descriptors, &index);
	if (!descriptor) {
		add64(&globals.losses.beyond_table, 1);
		return NULL;
	}
	if (!descriptor->touched) {
		descriptor->touched = 1;
		globals.touched[(index / TOUCHED_BLOCK) % sizeof(globals.touched)] = 1;
	}
	return descriptor;
}

/* A descriptor number of which something is noted but nothing counted; NULL when there is no room. */
static __always_inline struct descriptor *noted_at(s32 fd)
{
	u32 index = fd;
	struct descriptor *descriptor = bpf_map_lookup_elem(&descriptors, &index);

	if (descriptor)
		globals.touched[(index / TOUCHED_BLOCK) % sizeof(globals.touched)] = 1;
	return descriptor;
}

/*
 * The counters of a descriptor that the process makes a call on: the row of deliveries ends, and the
 * call counts for the thread if the descriptor was delivered to it.
 */
static __always_inline struct descriptor *called(s32 fd, u32 tid)
{
	struct descriptor *descriptor = descriptor_at(fd);

	if (!descriptor)
		return NULL;
	if (descriptor->row)
		descriptor->row = 0;
	for (u32 i = 0; i < DELIVERERS; i++) {
		struct deliverer *deliverer = &descriptor->deliverers[i];

		if (deliverer->tid == 0)
			break;
		if (deliverer->tid == tid) {
			deliverer->calls++;
			break;
		}
	}
	return descriptor;
}

/* The slot of the thread, taken on its first call; NULL when the table is full, which is counted. */
static __always_inline struct thread *thread_of(struct task_struct *task, u32 *slot)
{
	u32 tid = task->pid;

	for (u32 i = 0; i < SLOT_PROBES; i++) {
		u32 index = (tid + i) % THREAD_SLOTS;
		struct thread *thread = bpf_map_lookup_elem(&threads, &index);

		if (!thread)
			return NULL;
		*slot = index;
		if (thread->tid == tid)
			return thread;
		if (thread->tid == 0 && __sync_val_compare_and_swap(&thread->tid, 0, tid) == 0) {
			thread->seen_tid = task_number(task, globals.control.level);
			return thread;
		}
	}
	add64(&globals.losses.full_tables, 1);
	return NULL;
}

/*
 * The slot of a thread's waits on an epoll set, taken on the first; NULL when the table is full, which
 * is counted.
 */
static __always_inline struct wait_set *wait_set_of(u32 tid, u32 epoll_fd)
{
	u64 key = (u64)tid << 32 | epoll_fd;
	u32 home = tid + epoll_fd * 61; /* a thread's several sets land apart; 61 is any odd number above
					   SLOT_PROBES */

	for (u32 i = 0; i < SLOT_PROBES; i++) {
		u32 index = (home + i) % SET_SLOTS;
		struct wait_set *set = bpf_map_lookup_elem(&wait_sets, &index);

		if (!set)
			return NULL;
		if (set->key == key)
			return set;
		if (set->key == 0 && __sync_val_compare_and_swap(&set->key, 0, key) == 0)
			return set;
	}
	add64(&globals.losses.full_tables, 1);
	return NULL;
}

#endif

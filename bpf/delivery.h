/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The events that a wait returns, counted for the descriptors that they are about. */
#ifndef WHYSPIN_DELIVERY_H
#define WHYSPIN_DELIVERY_H

#include "count.h"
#include "registration.h"

/* A walk over the events that one wait returned. */
struct delivery {
	u64 array; /* in user space */
	u32 count;
	s32 epoll_fd;
	u32 kind; /* enum set_kind */
	u32 set_id;
	u32 tid;
	u32 unattributed;
	u32 ambiguous;
	u32 reserved;
};

/*
 * The descriptor that an event is about, or an attribution. The one place that knows what programs store
 * in epoll data.
 */
static __always_inline s32 descriptor_of(const struct delivery *delivery,
					 const struct user_epoll_event *event)
{
	if (delivery->kind == SET_DIRECT)
		return event->data_low;
	return mapped_descriptor(delivery->set_id, delivery->kind, event->data_low, event->data_high);
}

static __always_inline void count_deliverer(struct descriptor *descriptor, u32 tid)
{
	for (u32 i = 0; i < DELIVERERS; i++) {
		struct deliverer *deliverer = &descriptor->deliverers[i];

		if (deliverer->tid == tid ||
		    (deliverer->tid == 0 && __sync_val_compare_and_swap(&deliverer->tid, 0, tid) == 0)) {
			deliverer->count++;
			return;
		}
	}
	add32(&descriptor->other_deliveries, 1);
}

static __always_inline void count_delivery(struct descriptor *descriptor, u32 mask)
{
	u32 before = __sync_fetch_and_add(&descriptor->deliveries[mask], 1);
	u64 row = *(volatile u64 *)&descriptor->row;
	s32 length;

	if (row >> 32 != mask + 1) {
		row = (u64)(mask + 1) << 32 | before;
		descriptor->row = row;
	}
	/* Another thread may have begun a row after this delivery: nothing, or less, is then in it. */
	length = before + 1 - (u32)row;
	if (length > (s32)descriptor->longest_row)
		descriptor->longest_row = length;
}

/* One step of the walk: event number i. Returns 1 to stop. */
static long deliver(u32 i, struct delivery *delivery)
{
	struct event_chunk *chunk;
	struct user_epoll_event *event;
	struct descriptor *descriptor;
	u32 zero = 0;
	u64 mask;
	s32 fd;

	chunk = bpf_map_lookup_elem(&event_chunks, &zero);
	if (!chunk)
		return 1;
	if (i % CHUNK_EVENTS == 0) {
		u64 left = delivery->count - i;
		u64 from = delivery->array + (u64)i * sizeof(*event);

		if (left > CHUNK_EVENTS)
			left = CHUNK_EVENTS;
		if (bpf_probe_read_user(chunk, left * sizeof(*event), (void *)from)) {
			add64(&globals.losses.unread_events, delivery->count - i);
			return 1;
		}
	}
	event = &chunk->events[i % CHUNK_EVENTS];
	fd = descriptor_of(delivery, event);
	if (fd < 0) {
		if (fd == AMBIGUOUS)
			delivery->ambiguous++;
		else
			delivery->unattributed++;
		return 0;
	}
	descriptor = descriptor_at(fd);
	if (!descriptor)
		return 0;
	mask = (event->events & 0x1f) | (event->events & 0x2000) >> 8;
	forget(mask);
	if (mask >= MASKS)
		return 0;
	count_delivery(descriptor, mask);
	count_deliverer(descriptor, delivery->tid);
	if (descriptor->closed)
		add32(&descriptor->stale, 1);
	if (descriptor->epoll_fd_1 != delivery->epoll_fd + 1)
		descriptor->epoll_fd_1 = delivery->epoll_fd + 1;
	return 0;
}

static __always_inline void count_deliveries(struct wait_set *waits, u32 tid, s32 epoll_fd, u64 array,
					     u32 events)
{
	struct delivery delivery = {.array = array, .count = events, .epoll_fd = epoll_fd, .tid = tid};
	u32 index = epoll_fd;
	struct descriptor *set = bpf_map_lookup_elem(&descriptors, &index);

	if (!set) {
		add64(&globals.losses.beyond_table, 1);
		return;
	}
	delivery.kind = set->set_kind;
	delivery.set_id = set->set_id;
	if (delivery.kind == SET_UNKNOWN) {
		waits->unattributed += events;
		return;
	}
	if (events > MAX_EVENTS) {
		add64(&globals.losses.unread_events, events - MAX_EVENTS);
		delivery.count = MAX_EVENTS;
	}
	bpf_loop(delivery.count, deliver, &delivery, 0);
	/* Without a question whether there are any: the verifier would follow every possible number. */
	waits->unattributed += delivery.unattributed;
	waits->ambiguous += delivery.ambiguous;
}

#endif

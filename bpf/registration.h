/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which descriptor an event is about. Programs store what they like in epoll data: the descriptor, the
 * descriptor below a generation, an index, a pointer. User space looks at every registration when the
 * window begins; from then on epoll_ctl, close and dup are watched.
 */
#ifndef WHYSPIN_REGISTRATION_H
#define WHYSPIN_REGISTRATION_H

#include "count.h"

/*
 * The descriptor that events with these data are about, or an attribution. In a mixed set what is not in
 * the map has the descriptor in its data, and the descriptor knows the registration.
 */
__global s32 mapped_descriptor(u32 set_id, u32 kind, u32 low, u32 high)
{
	struct registration_key key = {.data = (u64)high << 32 | low, .set_id = set_id};
	struct registration *found = bpf_map_lookup_elem(&registrations, &key);
	struct descriptor *descriptor;

	if (found)
		return found->fd;
	if (kind != SET_MIXED)
		return UNATTRIBUTED;
	descriptor = bpf_map_lookup_elem(&descriptors, &low);
	if (!descriptor || descriptor->data != key.data || descriptor->data_set != set_id)
		return UNATTRIBUTED;
	return low;
}

/*
 * Enters a registration. Data that another live registration of the set has are ambiguous from then on;
 * a registration that has ended makes way.
 */
static __always_inline void enter_registration(u32 set_id, u64 data, s32 fd, u32 generation)
{
	struct registration_key key = {.data = data, .set_id = set_id};
	struct registration value = {.fd = fd, .generation = generation};
	struct registration *old = bpf_map_lookup_elem(&registrations, &key);

	if (old && old->fd != fd) {
		u32 index = old->fd;
		struct descriptor *other;

		if (old->fd < 0)
			return;
		other = bpf_map_lookup_elem(&descriptors, &index);
		if (other && other->generation == old->generation)
			value.fd = AMBIGUOUS;
	}
	if (bpf_map_update_elem(&registrations, &key, &value, UPDATE_ANY))
		add64(&globals.losses.full_registrations, 1);
	else if (!globals.state.registrations)
		globals.state.registrations = 1;
}

/*
 * Follows an epoll_ctl that succeeded. Its event is still in the caller's memory.
 *
 * A descriptor that is in several sets ends its registrations in all of them here when it leaves one.
 * This only matters when another descriptor of those sets has the same data: the newer one is then
 * believed where the data are ambiguous.
 */
__global int follow_control(u32 set_fd, u32 op, s32 fd, u64 address)
{
	struct user_epoll_event event;
	struct descriptor *descriptor;
	struct descriptor *set;
	u64 data;

	set = bpf_map_lookup_elem(&descriptors, &set_fd);
	if (!set || set->set_kind == SET_UNKNOWN)
		return 0;
	descriptor = noted_at(fd);
	if (!descriptor)
		return 0;
	if (op != EPOLL_CTL_ADD_)
		add32(&descriptor->generation, 1);
	if (op == EPOLL_CTL_DEL_) {
		descriptor->data_set = 0;
		return 0;
	}
	if (bpf_probe_read_user(&event, sizeof(event), (void *)address)) {
		add64(&globals.losses.unread_arguments, 1);
		return 0;
	}
	data = (u64)event.data_high << 32 | event.data_low;
	descriptor->data = data;
	descriptor->data_set = set->set_id;
	descriptor->closed = 0;
	if (set->set_kind == SET_DIRECT) {
		if ((s32)event.data_low == fd)
			return 0;
		set->set_kind = SET_MIXED;
	}
	enter_registration(set->set_id, data, fd, descriptor->generation);
	return 0;
}

/* Notes that the file under a number is gone, or has become another. */
static __always_inline void follow_close(struct descriptor *descriptor)
{
	add32(&descriptor->generation, 1);
	descriptor->closed = 1;
	descriptor->set_kind = SET_UNKNOWN;
	descriptor->destination_1 = 0;
}

/* Notes that a number now is what another is. */
__global int follow_dup(s32 from, s32 to)
{
	struct descriptor *copy;
	struct descriptor *descriptor;
	u32 index = from;

	if (from == to || from < 0)
		return 0;
	copy = noted_at(to);
	descriptor = bpf_map_lookup_elem(&descriptors, &index);
	if (!copy || !descriptor)
		return 0;
	follow_close(copy);
	copy->set_id = descriptor->set_id;
	copy->set_kind = descriptor->set_kind;
	return 0;
}

/* Notes a new epoll set: everything that will be in it is seen. Sets are direct until proved otherwise. */
__global int follow_create(s32 fd)
{
	struct descriptor *set = noted_at(fd);

	if (!set)
		return 0;
	set->set_id = __sync_fetch_and_add(&globals.state.set_id, 1) + 1;
	set->set_kind = SET_DIRECT;
	return 0;
}

#endif

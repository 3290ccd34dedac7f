/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Where the process connects to, whatever descriptors it uses, and what it learns of the outcome: by the
 * connect itself, by another one, by SO_ERROR, or by the first read or write that succeeds or fails.
 */
#ifndef WHYSPIN_DESTINATION_H
#define WHYSPIN_DESTINATION_H

#include "count.h"

/* struct sockaddr_in, sockaddr_in6 and sockaddr_un, include/uapi/linux: where the fields are. */
struct user_address {
	u16 family;
	u16 port; /* network order; a unix socket's path begins here */
	u32 ipv4; /* an IPv6 socket has its flow information here, and the address behind it */
};

enum {
	IPV6_OFFSET = 8,
	PATH_OFFSET = 2,
};

/* Reads an address; 0, or what the helper said. Of a family that is not counted the family is 0. */
static __always_inline long read_destination(struct destination_key *key, u64 address, u32 bytes)
{
	struct user_address head;
	u64 length;
	long err;

	if (bpf_probe_read_user(&head, sizeof(head.family), (void *)address))
		return -1;
	if (head.family == AF_UNIX_ && bytes > PATH_OFFSET) {
		length = bytes - PATH_OFFSET;
		if (length > PATH_BYTES)
			length = PATH_BYTES;
		err = bpf_probe_read_user(key->address, length, (void *)(address + PATH_OFFSET));
		if (err)
			return err;
		key->path_bytes = length;
		key->family = AF_UNIX_;
		return 0;
	}
	if (head.family != AF_INET_ && head.family != AF_INET6_)
		return 0;
	if (bpf_probe_read_user(&head, sizeof(head), (void *)address))
		return -1;
	key->port = __builtin_bswap16(head.port);
	key->family = head.family;
	if (head.family == AF_INET_) {
		__builtin_memcpy(key->address, &head.ipv4, sizeof(head.ipv4));
		return 0;
	}
	return bpf_probe_read_user(key->address, ADDRESS_BYTES, (void *)(address + IPV6_OFFSET));
}

/* The index of the destination, plus 1; 0 when there is none, which is counted. */
__global u32 destination_of(u64 address, u32 bytes)
{
	struct destination_key key = {};
	struct destination *destination;
	u32 *known;
	u32 index;

	if (read_destination(&key, address, bytes)) {
		add64(&globals.losses.unread_arguments, 1);
		return 0;
	}
	if (!key.family)
		return 0;
	known = bpf_map_lookup_elem(&destination_slots, &key);
	if (known)
		return *known + 1;
	/* Once the table is full the count goes on only as far as several threads take it at a time. */
	if (globals.state.destinations >= DESTINATIONS)
		goto full;
	index = __sync_fetch_and_add(&globals.state.destinations, 1);
	destination = bpf_map_lookup_elem(&destinations, &index);
	if (!destination)
		goto full;
	destination->key = key;
	if (!bpf_map_update_elem(&destination_slots, &key, &index, UPDATE_NOEXIST))
		return index + 1;
	/* Another thread was faster; the slot stays empty. */
	known = bpf_map_lookup_elem(&destination_slots, &key);
	if (known)
		return *known + 1;
full:
	add64(&globals.losses.full_destinations, 1);
	return 0;
}

/* Counts how the attempt that a descriptor is about came out. */
__global int settle(u32 fd, s64 result)
{
	struct descriptor *descriptor = bpf_map_lookup_elem(&descriptors, &fd);
	struct destination *destination;
	u32 index;

	if (!descriptor || !descriptor->destination_1)
		return 0;
	if (result == -EAGAIN_ || result == -EINTR_ || result == -EALREADY_ || result == -EINPROGRESS_ ||
	    result == -ENOTCONN_)
		return 0; /* not yet */
	index = descriptor->destination_1 - 1;
	descriptor->destination_1 = 0;
	destination = bpf_map_lookup_elem(&destinations, &index);
	if (!destination)
		return 0;
	if (result >= 0 || result == -EISCONN_)
		add32(&destination->established, 1);
	else
		add32(&destination->failed, 1);
	return 0;
}

/* Counts a connect: an attempt, or a question after one that is under way. */
__global int count_connect(s32 fd, u64 address, u32 bytes, s64 result, u32 tid)
{
	struct descriptor *descriptor = called(fd, tid);
	struct destination *destination;
	u32 index;

	if (!descriptor)
		return 0;
	add32(&descriptor->connects, 1);
	if (descriptor->destination_1)
		return settle(fd, result);
	if (result == -EALREADY_ || result == -EISCONN_)
		return 0; /* begun before the window, or long done */
	index = destination_of(address, bytes);
	if (!index)
		return 0;
	index--;
	destination = bpf_map_lookup_elem(&destinations, &index);
	if (!destination)
		return 0;
	add32(&destination->connects, 1);
	if (result == 0)
		add32(&destination->established, 1);
	else if (result == -EINPROGRESS_ || result == -EINTR_)
		descriptor->destination_1 = index + 1;
	else
		add32(&destination->refused, 1);
	return 0;
}

/* Follows a getsockopt(SO_ERROR) that succeeded: it says how a connect came out. */
__global int follow_socket_error(s32 fd, u64 value, u32 tid)
{
	struct descriptor *descriptor = called(fd, tid);
	s32 error;

	if (!descriptor || !descriptor->destination_1)
		return 0;
	if (bpf_probe_read_user(&error, sizeof(error), (void *)value)) {
		add64(&globals.losses.unread_arguments, 1);
		return 0;
	}
	return settle(fd, -(s64)error);
}

#endif

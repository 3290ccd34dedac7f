/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Reads and writes: what they moved, and which descriptors they passed on. */
#ifndef WHYSPIN_IO_H
#define WHYSPIN_IO_H

#include "count.h"
#include "destination.h"

/*
 * What a call may move: a peek leaves the bytes where they are, the error queue holds none of the
 * stream.
 */
enum moves {
	MOVES_BYTES,
	MOVES_NOTHING, /* MSG_PEEK: a zero is still an end of file */
	MOVES_ERRORS,  /* MSG_ERRQUEUE: a zero means nothing */
};

static __always_inline enum moves moves_of(u64 flags)
{
	if (flags & MSG_ERRQUEUE_)
		return MOVES_ERRORS;
	return flags & MSG_PEEK_ ? MOVES_NOTHING : MOVES_BYTES;
}

/* True exactly when a call moved bytes. */
static __always_inline bool has_moved(s64 result, enum moves moves)
{
	return result > 0 && moves == MOVES_BYTES;
}

static __always_inline void count_io(struct io *io, s64 result, enum moves moves)
{
	add32(&io->calls, 1);
	if (result > 0) {
		if (moves != MOVES_BYTES)
			return;
		add64(&io->bytes, result);
		if (result <= TINY_BYTES)
			add32(&io->tiny, 1);
	} else if (result == 0) {
		if (moves != MOVES_ERRORS)
			add32(&io->zero, 1);
	} else if (result == -EAGAIN_) {
		add32(&io->again, 1);
	} else if (result == -ECONNRESET_) {
		add32(&io->reset, 1);
	} else if (result == -EPIPE_) {
		add32(&io->pipe, 1);
	} else {
		add32(&io->errors, 1);
	}
}

/* Returns 1 when bytes were moved, as count_write does. */
__global int count_read(s32 fd, s64 result, enum moves moves, u32 tid)
{
	struct descriptor *descriptor = called(fd, tid);

	if (!descriptor)
		return has_moved(result, moves);
	count_io(&descriptor->read, result, moves);
	if (descriptor->destination_1)
		settle(fd, result);
	return has_moved(result, moves);
}

__global int count_write(s32 fd, s64 result, u32 tid)
{
	struct descriptor *descriptor = called(fd, tid);

	if (!descriptor)
		return has_moved(result, MOVES_BYTES);
	count_io(&descriptor->write, result, MOVES_BYTES);
	if (descriptor->destination_1)
		settle(fd, result);
	return has_moved(result, MOVES_BYTES);
}

/* A walk over the messages of recvmmsg or sendmmsg. */
struct messages {
	u64 array; /* of struct mmsghdr, include/linux/socket.h: a struct msghdr and the bytes moved */
	u64 bytes;
};

static long add_message(u32 i, struct messages *messages)
{
	const u32 size = 64, length_at = 56;
	u32 length = 0;

	if (bpf_probe_read_user(&length, sizeof(length),
				(void *)(messages->array + (u64)i * size + length_at))) {
		add64(&globals.losses.unread_arguments, 1);
		return 1;
	}
	messages->bytes += length;
	return 0;
}

/* What the messages of a call that moved some came to in bytes; an error stays one. */
__global s64 bytes_of_messages(u64 array, s64 count)
{
	struct messages messages = {.array = array};

	if (count <= 0)
		return count;
	bpf_loop(count < MAX_MESSAGES ? count : MAX_MESSAGES, add_message, &messages, 0);
	return messages.bytes;
}

/*
 * Counts the descriptors in the first control message of a message that was sent: their files live on in
 * another process. struct msghdr of include/linux/socket.h, struct cmsghdr of the same.
 */
__global int follow_message(u64 message)
{
	struct {
		u64 control;
		u64 control_bytes;
	} where;
	struct {
		u64 bytes;
		s32 level;
		s32 type;
	} head;
	const u64 control_at = 32;

	if (bpf_probe_read_user(&where, sizeof(where), (void *)(message + control_at))) {
		add64(&globals.losses.unread_arguments, 1);
		return 0;
	}
	if (!where.control || where.control_bytes < sizeof(head) + sizeof(s32))
		return 0;
	if (bpf_probe_read_user(&head, sizeof(head), (void *)where.control)) {
		add64(&globals.losses.unread_arguments, 1);
		return 0;
	}
	if (head.level != SOL_SOCKET_ || head.type != SCM_RIGHTS_)
		return 0;
	for (u32 i = 0; i < MAX_PASSED; i++) {
		struct descriptor *descriptor;
		s32 fd;

		if (head.bytes < sizeof(head) + (i + 1) * sizeof(fd) ||
		    bpf_probe_read_user(&fd, sizeof(fd),
					(void *)(where.control + sizeof(head) + i * sizeof(fd))))
			return 0;
		descriptor = descriptor_at(fd);
		if (descriptor) {
			add32(&descriptor->dups, 1);
			add32(&descriptor->passed, 1);
		}
	}
	return 0;
}

#endif

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What one process receives and sends, by socket. It is counted in the storage of the socket itself, so
 * it stays with it when its descriptor is closed, copied or passed on, and through io_uring, which makes
 * no system call for it. Attached only while a window is open.
 */
#include "kernel.h"
#include "evidence.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Gone with its socket, and all of it with the map. */
struct {
	__uint(type, MAP_TYPE_SK_STORAGE);
	__uint(map_flags, MAP_NO_PREALLOC);
	__type(key, int);
	__type(value, struct traffic);
} sockets SEC(".maps");

/* What user space writes and what the programs count, on cache lines of their own. */
struct traffic_globals {
	struct traffic_control control;
	u8 padding[56];
	struct traffic_totals totals;
};

struct traffic_globals globals __attribute__((aligned(64))) = {};

/* Types that no variable has, for the Go side. */
struct {
	struct traffic_record record;
} *exported __attribute__((unused));

/* include/net/sock.h, net/core/bpf_sk_storage.c */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct sock *sk;
	void *value;
};
#pragma clang attribute pop

/*
 * True exactly when the current call is the watched process's. Receiving and sending happen in the task
 * that asked for it; the threads of io_uring belong to the process, too.
 */
static __always_inline bool is_watched(void)
{
	u32 tgid = *(volatile u32 *)&globals.control.tgid;

	return tgid && (u32)bpf_get_current_task_btf()->tgid == tgid;
}

static __always_inline struct traffic *traffic_of(struct sock *sk)
{
	struct traffic *traffic;

	if (!sk)
		return NULL;
	traffic = bpf_sk_storage_get(&sockets, sk, NULL, STORAGE_GET_CREATE);
	if (!traffic)
		__sync_fetch_and_add(&globals.totals.unstored, 1);
	return traffic;
}

/* The totals have what the storage has, and what was in storage that is gone. */
static __always_inline int count_received(struct sock *sk, s64 bytes)
{
	struct traffic *traffic;

	if (bytes <= 0 || !is_watched())
		return 0;
	__sync_fetch_and_add(&globals.totals.received_bytes, bytes);
	traffic = traffic_of(sk);
	if (traffic)
		__sync_fetch_and_add(&traffic->received_bytes, bytes);
	return 0;
}

static __always_inline int count_sent(struct sock *sk, s64 bytes)
{
	struct traffic *traffic;

	if (bytes <= 0 || !is_watched())
		return 0;
	__sync_fetch_and_add(&globals.totals.sent_bytes, bytes);
	traffic = traffic_of(sk);
	if (traffic)
		__sync_fetch_and_add(&traffic->sent_bytes, bytes);
	return 0;
}

/* True exactly when a receive with these flags takes nothing out of the socket's queue. */
static __always_inline bool takes_nothing(u32 flags)
{
	return flags & (MSG_PEEK_ | MSG_ERRQUEUE_);
}

/* Arguments: sk, result, flags. 6.3: 6e6eda44b939 ("sock: add tracepoint for send recv length") */
SEC("tp_btf/sock_recv_length")
int on_sock_recv_length(u64 *ctx)
{
	if (takes_nothing((u32)ctx[2]))
		return 0;
	return count_received((struct sock *)ctx[0], (s32)ctx[1]);
}

SEC("tp_btf/sock_send_length")
int on_sock_send_length(u64 *ctx)
{
	return count_sent((struct sock *)ctx[0], (s32)ctx[1]);
}

/*
 * The result of the function; its place behind the arguments is not the same on all kernels, because
 * their number is not.
 */
static __always_inline s64 result(u64 *ctx)
{
	u64 value = 0;

	bpf_get_func_ret(ctx, &value);
	return value;
}

/*
 * Arguments: sk, msg, len, [nonblock,] flags, addr_len. 5.19: ec095263a965 ("net: remove noblock
 * parameter from recvmsg() entities")
 */
SEC("fexit/tcp_recvmsg")
int on_tcp_recvmsg(u64 *ctx)
{
	u64 flags = 0;

	bpf_get_func_arg(ctx, bpf_get_func_arg_cnt(ctx) - 2, &flags);
	if (takes_nothing(flags))
		return 0;
	return count_received((struct sock *)ctx[0], (s32)result(ctx));
}

/* Arguments: sk, msg, size. */
SEC("fexit/tcp_sendmsg")
int on_tcp_sendmsg(u64 *ctx)
{
	return count_sent((struct sock *)ctx[0], (s32)result(ctx));
}

/* Arguments: sk, page, offset, size, flags. Until 6.5: dc97391e6610 ("sock: Remove ->sendpage*()") */
SEC("fexit/tcp_sendpage")
int on_tcp_sendpage(u64 *ctx)
{
	return count_sent((struct sock *)ctx[0], (s32)result(ctx));
}

/* Arguments: sock, position, pipe, length, flags. No tracepoint sees what is received by splice. */
SEC("fexit/tcp_splice_read")
int on_tcp_splice_read(u64 *ctx)
{
	struct socket *socket = (struct socket *)ctx[0];

	return count_received(socket->sk, result(ctx));
}

/* One socket with storage: writes what was counted, or forgets it. */
SEC("iter/bpf_sk_storage_map")
int on_socket(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct traffic_record record = {};
	struct traffic *traffic = ctx->value;
	struct sock *sk = ctx->sk;

	if (!sk || !traffic)
		return 0;
	if (globals.control.forget) {
		traffic->received_bytes = 0;
		traffic->sent_bytes = 0;
		return 0;
	}
	record.cookie = bpf_get_socket_cookie(sk);
	record.traffic = *traffic;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

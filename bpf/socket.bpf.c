// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Level 1: TCP resets on the sockets of one process. Attached for as long as the process is watched.
 */
#include "kernel.h"
#include "evidence.h"
#include "marks.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Records of resets, RESET_RING_BYTES in all. Read when somebody asks, so a record wakes nobody. */
struct {
	__uint(type, MAP_TYPE_RINGBUF);
	__uint(max_entries, RESET_RING_BYTES);
} resets SEC(".maps");

/* What user space writes and what the programs count, on cache lines of their own. */
struct watch_globals {
	struct watch_control control;
	u8 padding[56];
	struct reset_totals totals;
};

struct watch_globals globals __attribute__((aligned(64))) = {};

/* Types that no variable has, for the Go side. */
struct {
	enum side side;
	struct reset reset;
} *exported __attribute__((unused));

static __always_inline void copy_addresses(struct reset *reset, struct sock *sk)
{
	struct inet_sock *inet = (struct inet_sock *)sk;

	reset->family = sk->__sk_common.skc_family;
	if (reset->family == AF_INET6_) {
		bpf_probe_read_kernel(reset->local, ADDRESS_BYTES, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(reset->remote, ADDRESS_BYTES, &sk->__sk_common.skc_v6_daddr);
	} else {
		*(u32 *)reset->local = sk->__sk_common.skc_rcv_saddr;
		*(u32 *)reset->remote = sk->__sk_common.skc_daddr;
	}
	/*
	 * skc_num is 0 once the socket has given its port back, which a close that resets does first.
	 */
	reset->local_port = __builtin_bswap16(kernel_read(inet->inet_sport));
	reset->remote_port = __builtin_bswap16(sk->__sk_common.skc_dport);
}

static __always_inline int count_reset(struct sock *sk, bool sent)
{
	struct mark *mark;
	struct reset *reset;

	/*
	 * The helper answers NULL for what has no storage: no socket at all, a request, a socket in
	 * TIME_WAIT.
	 */
	mark = bpf_sk_storage_get(&marks, sk, NULL, 0);
	if (!mark)
		return 0;
	__sync_fetch_and_add(sent ? &globals.totals.sent : &globals.totals.received, 1);

	reset = bpf_ringbuf_reserve(&resets, sizeof(*reset), 0);
	if (!reset) {
		__sync_fetch_and_add(&globals.totals.dropped, 1);
		return 0;
	}
	__builtin_memset(reset, 0, sizeof(*reset));
	reset->time_ns = bpf_ktime_get_ns();
	reset->cookie = bpf_get_socket_cookie(sk);
	reset->sent = sent;
	reset->side = mark->side;
	copy_addresses(reset, sk);
	bpf_ringbuf_submit(reset, RING_NO_WAKEUP);
	return 0;
}

/* Arguments: sk. */
SEC("tp_btf/tcp_receive_reset")
int on_tcp_receive_reset(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];

	return count_reset(sk, false);
}

/* Arguments: sk, skb and, on newer kernels, a reason. There is no sk when nobody owns the segment. */
SEC("tp_btf/tcp_send_reset")
int on_tcp_send_reset(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];

	if (!sk)
		return 0;
	return count_reset(sk, true);
}

/*
 * Arguments: sk, old state, new state. connect() sets SYN_SENT in the task that calls it, so here, and
 * nowhere later, the current process is the socket's.
 */
SEC("tp_btf/inet_sock_set_state")
int on_inet_sock_set_state(u64 *ctx)
{
	struct mark fresh = {.side = SIDE_SERVER};
	struct mark *mark;
	struct sock *sk;
	u32 tgid;

	if ((u32)ctx[2] != TCP_SYN_SENT_)
		return 0;
	tgid = *(volatile u32 *)&globals.control.tgid;
	if ((u32)bpf_get_current_task_btf()->tgid != tgid)
		return 0;
	sk = (struct sock *)ctx[0];
	if (sk->sk_protocol != IPPROTO_TCP_)
		return 0;
	mark = bpf_sk_storage_get(&marks, sk, &fresh, STORAGE_GET_CREATE);
	if (mark)
		mark->side = SIDE_SERVER;
	else
		__sync_fetch_and_add(&globals.totals.failed_marks, 1);
	return 0;
}

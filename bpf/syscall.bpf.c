// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Level 2: what one process asks of the kernel, counted where its calls return. Every wait with
 * timeout and result, every delivered event and every I/O call by descriptor.
 *
 * At the exit of a call all argument registers still hold what the caller passed, so one hook sees
 * arguments and result. There are three ways to get there, of which user space attaches the first that
 * works; they differ in how they reach the registers and share everything else.
 *
 * Counts are exact. A thread's own counters are written only at the exit of its own calls, one at a
 * time. Those of descriptors are shared between threads and added to atomically. Per-CPU scratch
 * belongs to one run at a time, because the kernel skips a run of a program that is already active on
 * the CPU, and counts it as a miss.
 */
#include "count.h"
#include "delivery.h"
#include "destination.h"
#include "io.h"
#include "registration.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Types that no variable has, for the Go side: BTF holds only what something refers to. */
struct {
	enum limit limit;
	enum timeout_class timeout_class;
	enum result_class result_class;
	enum set_kind set_kind;
	enum attribution attribution;
} *exported __attribute__((unused));

static __always_inline enum timeout_class class_of_ms(s32 timeout)
{
	if (timeout == 0)
		return TIMEOUT_ZERO;
	return timeout < 0 ? TIMEOUT_INFINITE : TIMEOUT_POSITIVE;
}

static __always_inline enum timeout_class class_of_timespec(u64 address)
{
	struct __kernel_timespec timeout;

	if (!address)
		return TIMEOUT_INFINITE;
	if (bpf_probe_read_user(&timeout, sizeof(timeout), (void *)address))
		return TIMEOUT_UNKNOWN;
	if (timeout.tv_sec == 0 && timeout.tv_nsec == 0)
		return TIMEOUT_ZERO;
	if (timeout.tv_sec < 0 || timeout.tv_nsec < 0 || timeout.tv_nsec >= 1000000000)
		return TIMEOUT_UNKNOWN; /* the kernel answers EINVAL */
	return TIMEOUT_POSITIVE;
}

/* Whether a thread went to sleep in the call that it now leaves. */
enum sleep {
	SLEEP_NO,
	SLEEP_YES,
	SLEEP_UNKNOWN, /* its first call of the window: it may have slept before */
};

static __always_inline struct wait_set *count_wait(u32 tid, u32 epoll_fd, s64 returned,
						   enum timeout_class timeout, enum sleep sleep)
{
	struct wait_set *set = wait_set_of(tid, epoll_fd);
	enum result_class result = returned > 0	   ? RESULT_EVENTS
				   : returned == 0 ? RESULT_NONE
						   : RESULT_ERROR;

	if (!set)
		return NULL;
	set->waits[timeout][result]++;
	if (sleep == SLEEP_YES)
		set->slept++;
	else if (sleep == SLEEP_UNKNOWN)
		set->slept_unknown++;
	if (returned > 0)
		set->events += returned;
	return set;
}

__global int count_epoll_wait(u32 tid, const struct call *call, enum sleep sleep)
{
	enum timeout_class timeout;
	struct wait_set *set;

	if (!call)
		return 0;
	timeout = call->nr == NR_epoll_pwait2 ? class_of_timespec(call->args[3])
					      : class_of_ms(call->args[3]);
	set = count_wait(tid, call->args[0], call->result, timeout, sleep);
	if (set && call->result > 0)
		count_deliveries(set, tid, call->args[0], call->args[1], call->result);
	return 0;
}

/*
 * The timeout of ppoll, select and pselect6. The kernel leaves there what remained of it, so nothing is
 * left of one that passed; but a thread that slept had one.
 */
static __always_inline enum timeout_class class_of_remainder(u64 address, enum sleep sleep)
{
	enum timeout_class class = class_of_timespec(address);

	if (class != TIMEOUT_ZERO || sleep == SLEEP_NO)
		return class;
	return sleep == SLEEP_YES ? TIMEOUT_POSITIVE : TIMEOUT_UNKNOWN;
}

/* Counts the waits of programs that do not use epoll. What they wait for is not looked at. */
__global int count_poll(u32 tid, const struct call *call, enum sleep sleep)
{
	enum timeout_class timeout = TIMEOUT_UNKNOWN;

	if (!call)
		return 0;
	switch (call->nr) {
	case NR_poll:
		timeout = class_of_ms(call->args[2]);
		break;
	case NR_ppoll:
		timeout = class_of_remainder(call->args[2], sleep);
		break;
	case NR_select: /* a struct timeval, whose second half is smaller but in the same place */
	case NR_pselect6:
		timeout = class_of_remainder(call->args[4], sleep);
		break;
	}
	count_wait(tid, POLL_SET, call->result, timeout, sleep);
	return 0;
}

#define count_field(fd, field)                                                                          \
	do {                                                                                            \
		struct descriptor *descriptor_ = called(fd, tid);                                       \
		if (descriptor_)                                                                        \
			add32(&descriptor_->field, 1);                                                  \
	} while (0)

/* Follows a call that may have made a number, or the data of events, mean another file. */
__global int follow_table(const struct call *call)
{
	struct descriptor *descriptor;

	if (!call)
		return 0;
	switch (call->nr) {
	case NR_close:
		/* A close that was interrupted has closed all the same. */
		descriptor =
			call->result == 0 || call->result == -EINTR_ ? noted_at(call->args[0]) : NULL;
		if (descriptor)
			follow_close(descriptor);
		break;
	case NR_fcntl:
		if (call->args[1] != F_DUPFD_ && call->args[1] != F_DUPFD_CLOEXEC_)
			break;
		if (call->result >= 0)
			follow_dup(call->args[0], call->result);
		break;
	case NR_dup:
	case NR_dup2:
	case NR_dup3:
		if (call->result >= 0)
			follow_dup(call->args[0], call->result);
		break;
	case NR_epoll_create:
	case NR_epoll_create1:
		if (call->result >= 0)
			follow_create(call->result);
		break;
	case NR_epoll_ctl:
		if (call->result == 0)
			follow_control(call->args[0], call->args[1], call->args[2], call->args[3]);
		break;
	}
	return 0;
}

/* Counts such a call, and follows it. */
__global int count_table(u32 tid, const struct call *call)
{
	if (!call)
		return 0;
	switch (call->nr) {
	case NR_close:
		count_field(call->args[0], closes);
		break;
	case NR_close_range:
		add64(&globals.losses.range_closes, 1);
		break;
	case NR_fcntl:
		if (call->args[1] != F_DUPFD_ && call->args[1] != F_DUPFD_CLOEXEC_)
			return 0;
		count_field(call->args[0], dups);
		break;
	case NR_dup:
	case NR_dup2:
	case NR_dup3:
		count_field(call->args[0], dups);
		break;
	case NR_epoll_ctl:
		count_field(call->args[2], controls);
		break;
	}
	return follow_table(call);
}

/* Counts what a call did to descriptors. Returns whether it got something done. */
static __always_inline bool count_call(u32 tid, const struct call *call)
{
	bool progress = false;

	switch (call->nr) {
	case NR_read:
	case NR_readv:
	case NR_pread64:
	case NR_preadv:
	case NR_preadv2:
		progress |= count_read(call->args[0], call->result, MOVES_BYTES, tid);
		break;
	case NR_recvfrom:
		progress |= count_read(call->args[0], call->result, moves_of(call->args[3]), tid);
		break;
	case NR_recvmsg:
		progress |= count_read(call->args[0], call->result, moves_of(call->args[2]), tid);
		break;
	case NR_recvmmsg:
		progress |= count_read(call->args[0], bytes_of_messages(call->args[1], call->result),
				       moves_of(call->args[3]), tid);
		break;
	case NR_sendmsg:
		progress |= count_write(call->args[0], call->result, tid);
		if (call->result >= 0)
			follow_message(call->args[1]);
		break;
	case NR_write:
	case NR_writev:
	case NR_pwrite64:
	case NR_pwritev:
	case NR_pwritev2:
	case NR_sendto:
	case NR_vmsplice: /* into a pipe, as it is used; out of one it moves bytes the other way */
		progress |= count_write(call->args[0], call->result, tid);
		break;
	case NR_sendmmsg:
		progress |=
			count_write(call->args[0], bytes_of_messages(call->args[1], call->result), tid);
		break;
	case NR_splice:
	case NR_copy_file_range:
		/* The kernel does not say which of the two an error came from: it counts for both. */
		progress |= count_read(call->args[0], call->result, MOVES_BYTES, tid);
		progress |= count_write(call->args[2], call->result, tid);
		break;
	case NR_tee: /* leaves the bytes where they are, and copies them */
		progress |= count_read(call->args[0], call->result, MOVES_NOTHING, tid);
		progress |= count_write(call->args[1], call->result, tid);
		break;
	case NR_sendfile:
		progress |= count_read(call->args[1], call->result, MOVES_BYTES, tid);
		progress |= count_write(call->args[0], call->result, tid);
		break;
	case NR_accept:
	case NR_accept4:
		progress = call->result >= 0;
		if (progress)
			count_field(call->args[0], accepts);
		else
			count_field(call->args[0], accept_errors);
		break;
	case NR_connect:
		progress = call->result == 0;
		count_connect(call->args[0], call->args[1], call->args[2], call->result, tid);
		break;
	case NR_getsockopt:
		if (call->args[1] == SOL_SOCKET_ && call->args[2] == SO_ERROR_ && call->result == 0)
			follow_socket_error(call->args[0], call->args[3], tid);
		break;
	case NR_shutdown:
		count_field(call->args[0], shutdowns);
		break;
	case NR_close:
		progress = call->result == 0;
		count_table(tid, call);
		break;
	case NR_close_range:
	case NR_epoll_ctl:
	case NR_dup:
	case NR_dup2:
	case NR_dup3:
	case NR_fcntl:
	case NR_epoll_create:
	case NR_epoll_create1:
		count_table(tid, call);
		break;
	}
	return progress;
}

/* True exactly when a call made a process; the new one is the caller's child. */
static __always_inline bool is_fork(const struct call *call)
{
	u64 flags = 0;

	if (call->result <= 0)
		return false;
	switch (call->nr) {
	case NR_fork:
	case NR_vfork:
		return true;
	case NR_clone:
		return !(call->args[0] & CLONE_THREAD_);
	case NR_clone3: /* struct clone_args of include/uapi/linux/sched.h begins with the flags */
		if (bpf_probe_read_user(&flags, sizeof(flags), (void *)call->args[0])) {
			add64(&globals.losses.unread_arguments, 1);
			return false;
		}
		return !(flags & CLONE_THREAD_);
	}
	return false;
}

/* Counts what a call says of the thread itself. */
static __always_inline void count_thread(struct thread *thread, const struct call *call,
					 enum sleep sleep)
{
	switch (call->nr) {
	case NR_sched_yield:
		thread->yields++;
		break;
	case NR_futex:
	case NR_futex_waitv:
		thread->futexes++;
		break;
	case NR_io_uring_enter:
		thread->rings++;
		break;
	case NR_fork:
	case NR_vfork:
	case NR_clone:
	case NR_clone3:
		if (is_fork(call))
			thread->forks++;
		break;
	case NR_poll:
	case NR_ppoll:
	case NR_select:
	case NR_pselect6:
		count_poll(thread->tid, call, sleep);
		break;
	default:
		if (count_call(thread->tid, call))
			thread->progress++;
	}
}

/*
 * Everything that the three hooks share. The caller has checked that the process is the one to count.
 */
static __always_inline void count_exit(struct task_struct *task, const struct call *call)
{
	/* The kernel has overwritten the number: rt_sigreturn, the end of a handler, asks for nothing. */
	const bool handler_end = call->nr == NO_CALL;
	enum sleep sleep = SLEEP_UNKNOWN;
	struct thread *thread;
	u64 switches;
	u32 slot;

	if (!*(volatile u32 *)&globals.control.counting) {
		if (!call->blind && !is_compat_call(task, call->nr))
			follow_table(call);
		return;
	}
	if (is_compat_call(task, call->nr)) {
		add64(&globals.losses.compat_calls, 1);
		return;
	}
	if (call->blind && !handler_end)
		add64(&globals.losses.blind_calls, 1);
	thread = thread_of(task, &slot);
	if (!thread)
		return;
	switches = task->nvcsw + 1;
	if (thread->switches)
		sleep = thread->switches == switches ? SLEEP_NO : SLEEP_YES;
	thread->switches = switches;
	if (is_restart(call->result) || handler_end)
		return;
	if (call->blind) {
		if (call->nr != NR_epoll_wait && call->nr != NR_epoll_pwait &&
		    call->nr != NR_epoll_pwait2)
			thread->calls++;
		return;
	}

	switch (call->nr) {
	case NR_epoll_wait:
	case NR_epoll_pwait:
	case NR_epoll_pwait2:
		count_epoll_wait(thread->tid, call, sleep);
		return;
	}
	thread->calls++;
	count_thread(thread, call, sleep);
}

#if defined(__TARGET_ARCH_x86)

#define read_call(call, regs, read)                                                                     \
	do {                                                                                            \
		(call).nr = read((regs)->orig_ax);                                                      \
		(call).args[0] = read((regs)->di);                                                      \
		(call).args[1] = read((regs)->si);                                                      \
		(call).args[2] = read((regs)->dx);                                                      \
		(call).args[3] = read((regs)->r10);                                                     \
		(call).args[4] = read((regs)->r8);                                                      \
		(call).args[5] = read((regs)->r9);                                                      \
	} while (0)

#elif defined(__TARGET_ARCH_arm64)

/* The result has replaced the first argument in regs[0] by then; orig_x0 keeps it. */
#define read_call(call, regs, read)                                                                     \
	do {                                                                                            \
		(call).nr = (s64)read((regs)->syscallno);                                               \
		(call).args[0] = read((regs)->orig_x0);                                                 \
		(call).args[1] = read((regs)->regs[1]);                                                 \
		(call).args[2] = read((regs)->regs[2]);                                                 \
		(call).args[3] = read((regs)->regs[3]);                                                 \
		(call).args[4] = read((regs)->regs[4]);                                                 \
		(call).args[5] = read((regs)->regs[5]);                                                 \
	} while (0)

#endif

#define read_directly(field) (field)

/* First try: the verifier knows what the arguments (regs, result) point to, fields are plain loads. */
SEC("tp_btf/sys_exit")
int on_sys_exit(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call call;
	struct pt_regs *regs;

	if (!is_counted(task))
		return 0;
	regs = (struct pt_regs *)ctx[0];
	call.result = ctx[1];
	call.blind = false;
	read_call(call, regs, read_directly);
	count_exit(task, &call);
	return 0;
}

/* Second try: the same arguments as bare numbers. */
SEC("raw_tp/sys_exit")
int on_raw_sys_exit(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call call;
	struct pt_regs *regs;

	if (!is_counted(task))
		return 0;
	regs = (struct pt_regs *)ctx[0];
	call.result = ctx[1];
	call.blind = false;
	read_call(call, regs, kernel_read);
	count_exit(task, &call);
	return 0;
}

/* Third try: a pair of classic tracepoints, of which the second does not see the arguments. */
SEC("tracepoint/raw_syscalls/sys_enter")
int on_tp_sys_enter(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct saved_call *saved;
	u32 slot;

	if (!is_counted(task) || is_compat_call(task, ctx->id) || !thread_of(task, &slot))
		return 0;
	saved = bpf_map_lookup_elem(&saved_calls, &slot);
	if (!saved)
		return 0;
	saved->nr_1 = ctx->id + 1;
	for (u32 i = 0; i < 6; i++)
		saved->args[i] = ctx->args[i];
	return 0;
}

SEC("tracepoint/raw_syscalls/sys_exit")
int on_tp_sys_exit(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct saved_call *saved;
	struct call call = {};
	u32 slot;

	if (!is_counted(task))
		return 0;
	call.nr = ctx->id;
	call.result = ctx->ret;
	if (!is_compat_call(task, call.nr)) {
		if (!thread_of(task, &slot))
			return 0;
		saved = bpf_map_lookup_elem(&saved_calls, &slot);
		if (!saved)
			return 0;
		call.blind = saved->nr_1 != call.nr + 1;
		for (u32 i = 0; i < 6; i++)
			call.args[i] = saved->args[i];
		saved->nr_1 = 0;
	}
	count_exit(task, &call);
	return 0;
}

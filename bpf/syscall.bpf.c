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
#include "kernel.h"
#include "evidence.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* 1 entry per descriptor number; user space sets the size from the process's limit. 384 bytes each. */
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
	u8 padding[56];
	struct losses losses;
	u8 padding2[24];
	/*
	 * 1: something was counted for one of TOUCHED_BLOCK descriptors, from index * TOUCHED_BLOCK.
	 */
	u8 touched[MAX_DESCRIPTORS / TOUCHED_BLOCK];
};

struct count_globals globals __attribute__((aligned(64))) = {};

/* Types that no variable has, for the Go side: BTF holds only what something refers to. */
struct {
	enum limit limit;
	enum timeout_class timeout_class;
	enum result_class result_class;
	enum set_kind set_kind;
} *exported __attribute__((unused));

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

static __noinline int count_read(s32 fd, s64 result, enum moves moves)
{
	struct descriptor *descriptor = descriptor_at(fd);

	if (descriptor)
		count_io(&descriptor->read, result, moves);
	return 0;
}

static __noinline int count_write(s32 fd, s64 result)
{
	struct descriptor *descriptor = descriptor_at(fd);

	if (descriptor)
		count_io(&descriptor->write, result, MOVES_BYTES);
	return 0;
}

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

/* A walk over the events that one wait returned. */
struct delivery {
	u64 array; /* in user space */
	u32 count;
	s32 epoll_fd;
	u32 kind; /* enum set_kind */
	u32 reserved;
};

/*
 * The descriptor that an event is about. This is the one place that knows what programs store in epoll
 * data; a map from data to descriptor, for programs that store pointers, would be asked here.
 */
static __always_inline s32 descriptor_of(const struct delivery *delivery,
					 const struct user_epoll_event *event)
{
	return delivery->kind == SET_DIRECT ? (s32)event->data_low : -1;
}

/* One step of the walk: event number i. Returns 1 to stop. */
static long deliver(u32 i, struct delivery *delivery)
{
	struct event_chunk *chunk;
	struct user_epoll_event *event;
	struct descriptor *descriptor;
	u32 zero = 0;
	u64 mask;

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
	descriptor = descriptor_at(descriptor_of(delivery, event));
	if (!descriptor)
		return 0;
	mask = (event->events & 0x1f) | (event->events & 0x2000) >> 8;
	forget(mask);
	if (mask >= MASKS)
		return 0;
	add32(&descriptor->deliveries[mask], 1);
	if (descriptor->epoll_fd_1 != delivery->epoll_fd + 1)
		descriptor->epoll_fd_1 = delivery->epoll_fd + 1;
	return 0;
}

static __always_inline void count_deliveries(s32 epoll_fd, u64 array, u32 events)
{
	struct delivery delivery = {.array = array, .count = events, .epoll_fd = epoll_fd};
	u32 index = epoll_fd;
	struct descriptor *set = bpf_map_lookup_elem(&descriptors, &index);

	if (!set) {
		add64(&globals.losses.beyond_table, 1);
		return;
	}
	if (set->set_kind == SET_UNKNOWN)
		return;
	delivery.kind = set->set_kind;
	if (events > MAX_EVENTS) {
		add64(&globals.losses.unread_events, events - MAX_EVENTS);
		delivery.count = MAX_EVENTS;
	}
	bpf_loop(delivery.count, deliver, &delivery, 0);
}

/* Whether a thread went to sleep in the call that it now leaves. */
enum sleep {
	SLEEP_NO,
	SLEEP_YES,
	SLEEP_UNKNOWN, /* its first call of the window: it may have slept before */
};

static __always_inline void count_wait(u32 tid, const struct call *call, enum timeout_class timeout,
				       enum sleep sleep)
{
	struct wait_set *set = wait_set_of(tid, call->args[0]);
	enum result_class result = call->result > 0    ? RESULT_EVENTS
				   : call->result == 0 ? RESULT_NONE
						       : RESULT_ERROR;

	if (!set)
		return;
	set->waits[timeout][result]++;
	if (sleep == SLEEP_YES)
		set->slept++;
	else if (sleep == SLEEP_UNKNOWN)
		set->slept_unknown++;
	if (call->result > 0) {
		set->events += call->result;
		count_deliveries(call->args[0], call->args[1], call->result);
	}
}

#define count_field(fd, field)                                                                          \
	do {                                                                                            \
		struct descriptor *descriptor_ = descriptor_at(fd);                                     \
		if (descriptor_)                                                                        \
			add32(&descriptor_->field, 1);                                                  \
	} while (0)

/* Counts what a call did to descriptors. */
static __always_inline void count_call(const struct call *call)
{
	switch (call->nr) {
	case NR_read:
	case NR_readv:
		count_read(call->args[0], call->result, MOVES_BYTES);
		break;
	case NR_recvfrom:
		count_read(call->args[0], call->result, moves_of(call->args[3]));
		break;
	case NR_recvmsg:
		count_read(call->args[0], call->result, moves_of(call->args[2]));
		break;
	case NR_write:
	case NR_writev:
	case NR_sendto:
	case NR_sendmsg:
		count_write(call->args[0], call->result);
		break;
	case NR_splice:
		/* The kernel does not say which of the two an error came from: it counts for both. */
		count_read(call->args[0], call->result, MOVES_BYTES);
		count_write(call->args[2], call->result);
		break;
	case NR_sendfile:
		count_read(call->args[1], call->result, MOVES_BYTES);
		count_write(call->args[0], call->result);
		break;
	case NR_accept:
	case NR_accept4:
		if (call->result >= 0)
			count_field(call->args[0], accepts);
		else
			count_field(call->args[0], accept_errors);
		break;
	case NR_connect:
		count_field(call->args[0], connects);
		break;
	case NR_close:
		count_field(call->args[0], closes);
		break;
	case NR_shutdown:
		count_field(call->args[0], shutdowns);
		break;
	case NR_epoll_ctl:
		count_field(call->args[2], controls);
		break;
	case NR_dup:
	case NR_dup2:
	case NR_dup3:
		count_field(call->args[0], dups);
		break;
	}
}

static __always_inline bool is_wait(u64 nr)
{
	return nr == NR_epoll_wait || nr == NR_epoll_pwait || nr == NR_epoll_pwait2;
}

/*
 * Everything that the three hooks share. The caller has checked that the process is the one to count.
 */
static __always_inline void count_exit(struct task_struct *task, const struct call *call)
{
	enum sleep sleep = SLEEP_UNKNOWN;
	struct thread *thread;
	u64 switches;
	u32 slot;

	if (is_compat_call(task, call->nr)) {
		add64(&globals.losses.compat_calls, 1);
		return;
	}
	thread = thread_of(task, &slot);
	if (!thread)
		return;
	switches = task->nvcsw + 1;
	if (thread->switches)
		sleep = thread->switches == switches ? SLEEP_NO : SLEEP_YES;
	thread->switches = switches;
	if (is_restart(call->result))
		return;
	if (call->blind) {
		if (!is_wait(call->nr))
			thread->calls++;
		return;
	}

	switch (call->nr) {
	case NR_epoll_wait:
	case NR_epoll_pwait:
		count_wait(task->pid, call, class_of_ms(call->args[3]), sleep);
		return;
	case NR_epoll_pwait2:
		count_wait(task->pid, call, class_of_timespec(call->args[3]), sleep);
		return;
	}
	thread->calls++;
	count_call(call);
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
		if (saved->nr_1 != call.nr + 1) {
			add64(&globals.losses.blind_calls, 1);
			call.blind = true;
		}
		for (u32 i = 0; i < 6; i++)
			call.args[i] = saved->args[i];
		saved->nr_1 = 0;
	}
	count_exit(task, &call);
	return 0;
}

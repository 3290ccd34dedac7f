/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The fields of kernel structures that the programs read, each under the header it comes from, and
 * everything in which kernels differ. The loader rewrites every access to the running kernel's layout
 * (CO-RE), so the structures are trimmed to what is used and their order means nothing.
 */
#ifndef WHYSPIN_KERNEL_H
#define WHYSPIN_KERNEL_H

#include "helpers.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/types.h */
struct list_head {
	struct list_head *next;
};
struct hlist_node {
	struct hlist_node *next;
};
struct hlist_head {
	struct hlist_node *first;
};

/*
 * include/linux/pid.h; numbers[n] is the id in the namespace of level n, level the one it was created
 * in
 */
struct upid {
	int nr;
};
struct pid {
	unsigned int level;
	struct upid numbers[1];
};

/* arch/x86/include/asm/thread_info.h; status is x86 only */
struct thread_info {
	unsigned long flags;
	u32 status;
};

/* include/linux/sched.h; nvcsw counts voluntary context switches */
struct task_struct {
	struct thread_info thread_info;
	int pid;
	int tgid;
	struct pid *thread_pid;
	unsigned long nvcsw;
};

/* include/linux/fs.h, include/linux/dcache.h, include/linux/path.h */
struct super_block {
	unsigned long s_magic;
};
struct inode {
	u16 i_mode;
	struct super_block *i_sb;
};
struct qstr {
	const unsigned char *name;
};
struct dentry {
	struct qstr d_name;
};
struct path {
	struct dentry *dentry;
};
struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
	struct hlist_head *f_ep; /* 5.11: 319c15174757 ("epoll: take epitem list out of struct file") */
};

/* fs/eventpoll.c */
struct epoll_filefd {
	struct file *file;
	int fd;
};
struct eventpoll {
	struct list_head rdllist;
};
struct epoll_event {
	u32 events;
	u64 data;
};
struct epitem {
	struct list_head rdllink;
	struct epoll_filefd ffd;
	struct eventpoll *ep;
	struct hlist_node fllink;
	struct epoll_event event;
};
/* The link on the overflow list, by its two names. */
struct epitem___next {
	struct epitem *next;
};
struct epitem___ovflist_next {
	struct epitem *ovflist_next;
};

/* include/uapi/linux/in6.h */
struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
};

/* include/net/sock.h; skc_num is in host order, skc_dport in network order */
struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};
struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	u32 sk_ack_backlog;
	u32 sk_max_ack_backlog;
};

/*
 * include/net/inet_sock.h; inet_sport, in network order, outlives skc_num, which inet_put_port()
 * clears
 */
struct inet_sock {
	u16 inet_sport;
};

/* net/mptcp/protocol.h; the accept queue of a listener is that of its first subflow */
struct mptcp_sock {
	struct sock *first;
};

/* include/linux/tcp.h */
struct tcp_sock {
	u32 rcv_nxt;
	u32 copied_seq;
	u32 write_seq;
	u32 snd_una;
};

/* include/linux/net.h */
struct socket {
	struct sock *sk;
};

/* include/linux/bpf.h, kernel/bpf/task_iter.c */
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#if defined(__TARGET_ARCH_x86)

/* arch/x86/include/asm/ptrace.h */
struct pt_regs {
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};

#elif defined(__TARGET_ARCH_arm64)

/* arch/arm64/include/asm/ptrace.h */
struct pt_regs {
	u64 regs[31];
	u64 pstate;
	u64 orig_x0;
	s32 syscallno;
};

#endif

#pragma clang attribute pop

/*
 * include/trace/events/syscalls.h, in the layout that events/raw_syscalls/sys_enter/format and
 * sys_exit/format of tracefs promise to user space; the same on every kernel, so nothing is rewritten
 * here.
 */
struct trace_event_raw_sys_enter {
	u64 common;
	long id;
	unsigned long args[6];
};
struct trace_event_raw_sys_exit {
	u64 common;
	long id;
	long ret;
};

/* include/uapi/linux/time_types.h */
struct __kernel_timespec {
	s64 tv_sec;
	s64 tv_nsec;
};

#if defined(__TARGET_ARCH_x86)

/*
 * struct epoll_event of include/uapi/linux/eventpoll.h, which is packed on x86-64 only. The data are
 * in two halves so that the loads of a packed structure are not made byte by byte.
 */
struct user_epoll_event {
	u32 events;
	u32 data_low;
	u32 data_high;
};

/* arch/x86/entry/syscalls/syscall_64.tbl */
enum {
	NR_read = 0,
	NR_write = 1,
	NR_close = 3,
	NR_poll = 7,
	NR_pread64 = 17,
	NR_pwrite64 = 18,
	NR_readv = 19,
	NR_writev = 20,
	NR_select = 23,
	NR_sched_yield = 24,
	NR_dup = 32,
	NR_dup2 = 33,
	NR_sendfile = 40,
	NR_connect = 42,
	NR_accept = 43,
	NR_sendto = 44,
	NR_recvfrom = 45,
	NR_sendmsg = 46,
	NR_recvmsg = 47,
	NR_shutdown = 48,
	NR_getsockopt = 55,
	NR_clone = 56,
	NR_fork = 57,
	NR_vfork = 58,
	NR_fcntl = 72,
	NR_futex = 202,
	NR_epoll_create = 213,
	NR_epoll_wait = 232,
	NR_epoll_ctl = 233,
	NR_pselect6 = 270,
	NR_ppoll = 271,
	NR_splice = 275,
	NR_tee = 276,
	NR_vmsplice = 278,
	NR_epoll_pwait = 281,
	NR_accept4 = 288,
	NR_epoll_create1 = 291,
	NR_dup3 = 292,
	NR_preadv = 295,
	NR_pwritev = 296,
	NR_recvmmsg = 299,
	NR_sendmmsg = 307,
	NR_copy_file_range = 326,
	NR_preadv2 = 327,
	NR_pwritev2 = 328,
	NR_io_uring_enter = 426,
	NR_clone3 = 435,
	NR_close_range = 436,
	NR_epoll_pwait2 = 441,
	NR_futex_waitv = 449,
};

/*
 * True exactly when the current system call came through a 32-bit entry: its number and arguments mean
 * other things.
 */
static __always_inline bool is_compat_call(struct task_struct *task, u64 nr)
{
	const u32 ts_compat = 0x0002;	    /* arch/x86/include/asm/thread_info.h: TS_COMPAT */
	const u64 x32_syscall = 0x40000000; /* arch/x86/include/uapi/asm/unistd.h: __X32_SYSCALL_BIT */

	/* A number of -1 is no call of the x32 interface: rt_sigreturn leaves it behind. */
	return (task->thread_info.status & ts_compat) || ((s64)nr > 0 && (nr & x32_syscall));
}

#elif defined(__TARGET_ARCH_arm64)

struct user_epoll_event {
	u32 events;
	u32 padding;
	u32 data_low;
	u32 data_high;
};

/*
 * include/uapi/asm-generic/unistd.h; arm64 has none of the older calls at the end of the list, which
 * match no number.
 */
enum {
	NR_epoll_create1 = 20,
	NR_epoll_ctl = 21,
	NR_epoll_pwait = 22,
	NR_dup = 23,
	NR_dup3 = 24,
	NR_fcntl = 25,
	NR_close = 57,
	NR_read = 63,
	NR_write = 64,
	NR_readv = 65,
	NR_writev = 66,
	NR_pread64 = 67,
	NR_pwrite64 = 68,
	NR_preadv = 69,
	NR_pwritev = 70,
	NR_sendfile = 71,
	NR_pselect6 = 72,
	NR_ppoll = 73,
	NR_vmsplice = 75,
	NR_splice = 76,
	NR_tee = 77,
	NR_futex = 98,
	NR_sched_yield = 124,
	NR_accept = 202,
	NR_connect = 203,
	NR_sendto = 206,
	NR_recvfrom = 207,
	NR_getsockopt = 209,
	NR_shutdown = 210,
	NR_sendmsg = 211,
	NR_recvmsg = 212,
	NR_clone = 220,
	NR_accept4 = 242,
	NR_recvmmsg = 243,
	NR_sendmmsg = 269,
	NR_copy_file_range = 285,
	NR_preadv2 = 286,
	NR_pwritev2 = 287,
	NR_io_uring_enter = 426,
	NR_clone3 = 435,
	NR_close_range = 436,
	NR_epoll_pwait2 = 441,
	NR_futex_waitv = 449,
	NR_epoll_wait = 100000,
	NR_dup2 = 100001,
	NR_poll = 100002,
	NR_select = 100003,
	NR_fork = 100004,
	NR_vfork = 100005,
	NR_epoll_create = 100006,
};

static __always_inline bool is_compat_call(struct task_struct *task, u64 nr)
{
	const unsigned long tif_32bit = 1UL << 22; /* arch/arm64/include/asm/thread_info.h: TIF_32BIT */

	return task->thread_info.flags & tif_32bit;
}

#endif

/* include/uapi/asm-generic/errno-base.h, include/uapi/asm-generic/errno.h */
enum {
	EINTR_ = 4,
	EAGAIN_ = 11,
	EPIPE_ = 32,
	ECONNRESET_ = 104,
	EISCONN_ = 106,
	ENOTCONN_ = 107,
	EALREADY_ = 114,
	EINPROGRESS_ = 115,
};

/* What the kernel leaves as the number of rt_sigreturn, with the registers of before the signal. */
#define NO_CALL (~0ULL)

/*
 * True exactly when the result says that the call will be made again: ERESTARTSYS to ERESTARTNOHAND
 * and ERESTART_RESTARTBLOCK of include/linux/errno.h, which user space never sees.
 */
static __always_inline bool is_restart(s64 result)
{
	return result <= -512 && result >= -516;
}

/* include/linux/socket.h, include/uapi/linux/in.h, include/net/tcp_states.h */
enum {
	AF_UNIX_ = 1,
	AF_INET_ = 2,
	AF_INET6_ = 10,

	SOCK_STREAM_ = 1,
	SOCK_DGRAM_ = 2,

	IPPROTO_TCP_ = 6,
	IPPROTO_MPTCP_ = 262,
	IPPROTO_UDP_ = 17,

	MSG_PEEK_ = 0x02,
	MSG_ERRQUEUE_ = 0x2000,

	SOL_SOCKET_ = 1,
	SO_ERROR_ = 4,
	SCM_RIGHTS_ = 1,

	TCP_SYN_SENT_ = 2,
	TCP_LISTEN_ = 10,
};

/* include/uapi/linux/eventpoll.h, include/uapi/linux/fcntl.h, include/uapi/linux/sched.h */
enum {
	EPOLL_CTL_ADD_ = 1,
	EPOLL_CTL_DEL_ = 2,
	EPOLL_CTL_MOD_ = 3,

	F_DUPFD_ = 0,
	F_DUPFD_CLOEXEC_ = 1030,

	CLONE_THREAD_ = 0x10000,
};

/* include/uapi/linux/stat.h, include/uapi/linux/magic.h */
enum {
	S_IFMT_ = 0170000,
	S_IFIFO_ = 0010000,
	S_IFCHR_ = 0020000,
	S_IFDIR_ = 0040000,
	S_IFBLK_ = 0060000,
	S_IFREG_ = 0100000,

	ANON_INODE_FS_MAGIC_ = 0x09041934,
};

/*
 * The overflow list of an epoll set takes what becomes ready while the ready list is being handed
 * over. Its link was renamed from next to ovflist_next (6.18.44 has the new name, 6.1 and 6.12 the old
 * one).
 */
static __always_inline bool is_on_overflow_list(struct epitem *item)
{
	const u64 unactive = ~0ULL; /* fs/eventpoll.c: EP_UNACTIVE_PTR */
	struct epitem___ovflist_next *new = (void *)item;
	struct epitem___next *old = (void *)item;

	if (kernel_has_field(struct epitem___ovflist_next, ovflist_next))
		return (u64)kernel_read(new->ovflist_next) != unactive;
	if (kernel_has_field(struct epitem___next, next))
		return (u64)kernel_read(old->next) != unactive;
	return false;
}

/*
 * The id of a task as a namespace at the given level sees it; 0 when it has none there. Level 0 is the
 * machine's own namespace. On 6.1 numbers is an array of one, on 6.12 a flexible one; the address
 * arithmetic below does not mind.
 */
static __always_inline u32 task_number(struct task_struct *task, u32 level)
{
	struct pid *pid = kernel_read(task->thread_pid);
	u32 number = 0;

	if (!pid || level > kernel_read(pid->level))
		return 0;
	bpf_probe_read_kernel(&number, sizeof(number),
			      (char *)&pid->numbers + level * kernel_sizeof(struct upid));
	return number;
}

#endif

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What a process has open: one pass over its descriptor table gives sockets, queues and epoll
 * registrations, without stopping it and without the locks that reading /proc/PID/fdinfo takes. The
 * price is that the pass is no snapshot: what changes meanwhile may be seen before or after.
 *
 * Both programs are iterators that user space runs for one process; they write records of evidence.h.
 */
#include "kernel.h"
#include "evidence.h"
#include "marks.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* What user space asks of the next pass. */
struct pass_control {
	u32 mark; /* 1: mark the TCP sockets */
	u32 reserved;
};

struct pass_control control = {};

/* Types that no variable has, for the Go side. */
struct {
	enum record_type record_type;
	enum file_kind file_kind;
	struct file_record file;
	struct registration_record registration;
	struct task_record task;
} *exported __attribute__((unused));

/* Copies the name of an anonymous inode and tells whether it is an epoll set's. */
static __always_inline bool is_epoll(struct file *file, struct file_record *record)
{
	/* fs/eventpoll.c names it "[eventpoll]"; the file operations would need the symbol table. */
	const u64 eventpol = 0x6f70746e6576655bULL; /* "[eventpo", little endian */

	bpf_probe_read_kernel_str(record->name, sizeof(record->name), file->f_path.dentry->d_name.name);
	return *(u64 *)record->name == eventpol;
}

static __always_inline void describe_inode(struct file *file, struct file_record *record)
{
	struct inode *inode = file->f_inode;

	/* Before the mode, which anonymous inodes leave empty on some kernels and not on others. */
	if (inode->i_sb->s_magic == ANON_INODE_FS_MAGIC_) {
		record->kind = FILE_ANONYMOUS;
		if (is_epoll(file, record)) {
			record->kind = FILE_EPOLL;
			record->set = (u64)file->private_data;
		}
		return;
	}
	switch (inode->i_mode & S_IFMT_) {
	case S_IFREG_:
		record->kind = FILE_REGULAR;
		break;
	case S_IFDIR_:
		record->kind = FILE_DIRECTORY;
		break;
	case S_IFCHR_:
		record->kind = FILE_CHARACTER;
		break;
	case S_IFBLK_:
		record->kind = FILE_BLOCK;
		break;
	case S_IFIFO_:
		record->kind = FILE_PIPE;
		break;
	}
}

/* The queues as ss(8) shows them: net/ipv4/tcp_diag.c, tcp_diag_get_info(). */
static __always_inline void describe_tcp(struct sock *sk, struct file_record *record)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	s32 unread;

	record->kind = FILE_TCP;
	record->state = sk->__sk_common.skc_state;
	if (record->state == TCP_LISTEN_) {
		record->receive_bytes = sk->sk_ack_backlog;
		record->backlog = sk->sk_max_ack_backlog;
		return;
	}
	if (!tcp)
		return;
	unread = tcp->rcv_nxt - tcp->copied_seq;
	record->receive_bytes = unread > 0 ? unread : 0;
	record->send_bytes = tcp->write_seq - tcp->snd_una;
}

/*
 * A listener of Multipath TCP, which Go's net package makes by default. What it accepts from a plain TCP
 * client is a plain TCP socket. The queue as ss(8) shows it: net/mptcp/mptcp_diag.c,
 * mptcp_diag_get_info(). A kernel without Multipath TCP has no such type.
 */
static __always_inline void describe_mptcp_listener(struct sock *sk, struct file_record *record)
{
	struct sock *first;

	record->kind = FILE_TCP;
	record->state = TCP_LISTEN_;
	if (!kernel_has_type(struct mptcp_sock))
		return;
	first = kernel_read(((struct mptcp_sock *)sk)->first);
	if (!first)
		return;
	record->receive_bytes = kernel_read(first->sk_ack_backlog);
	record->backlog = kernel_read(first->sk_max_ack_backlog);
}

static __always_inline void mark_socket(struct sock *sk, struct file_record *record)
{
	bool listens = record->state == TCP_LISTEN_;
	struct mark fresh = {.side = listens ? SIDE_CLIENT : SIDE_UNKNOWN};
	struct mark *mark = bpf_sk_storage_get(&marks, sk, &fresh, STORAGE_GET_CREATE);

	if (!mark)
		record->unmarked = 1;
	else if (listens)
		mark->side = SIDE_CLIENT;
}

static __always_inline void describe_socket(struct sock *sk, struct file_record *record)
{
	record->kind = FILE_SOCKET;
	record->family = sk->__sk_common.skc_family;
	record->socket_type = sk->sk_type;
	record->cookie = bpf_get_socket_cookie(sk);
	if (record->family == AF_UNIX_) {
		record->kind = FILE_UNIX;
		return;
	}
	if (record->family == AF_INET6_) {
		bpf_probe_read_kernel(record->local, ADDRESS_BYTES, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(record->remote, ADDRESS_BYTES, &sk->__sk_common.skc_v6_daddr);
	} else if (record->family == AF_INET_) {
		*(u32 *)record->local = sk->__sk_common.skc_rcv_saddr;
		*(u32 *)record->remote = sk->__sk_common.skc_daddr;
	} else {
		return;
	}
	/* The port of a connection that is over has been given back; what it was is still in inet_sport. */
	record->local_port = sk->__sk_common.skc_num;
	if (!record->local_port)
		record->local_port =
			__builtin_bswap16(kernel_read(((struct inet_sock *)sk)->inet_sport));
	record->remote_port = __builtin_bswap16(sk->__sk_common.skc_dport);
	if (sk->sk_protocol == IPPROTO_TCP_) {
		describe_tcp(sk, record);
		if (control.mark)
			mark_socket(sk, record);
	} else if (sk->sk_protocol == IPPROTO_MPTCP_ && sk->__sk_common.skc_state == TCP_LISTEN_) {
		describe_mptcp_listener(sk, record);
	} else if (sk->sk_protocol == IPPROTO_UDP_) {
		record->kind = FILE_UDP;
	}
}

/*
 * Writes a record for each epoll set that holds the file. They hang on a list of the file itself, so
 * an entry whose descriptor was closed is still found as long as the process has the file open under
 * any number.
 */
static __always_inline void write_registrations(struct seq_file *seq, struct file *file,
						struct file_record *record)
{
	struct hlist_head *entries = file->f_ep;
	struct hlist_node *node;

	if (!entries)
		return;
	node = kernel_read(entries->first);
	for (u32 i = 0; i < MAX_REGISTRATIONS && node; i++) {
		struct registration_record out = {.type = RECORD_REGISTRATION};
		struct epitem *item = kernel_container_of(node, struct epitem, fllink);

		out.fd = kernel_read(item->ffd.fd);
		out.found_fd = record->fd;
		out.file = (u64)file;
		out.set = (u64)kernel_read(item->ep);
		out.mask = kernel_read(item->event.events);
		out.data = kernel_read(item->event.data);
		/* A list entry that is on no list points to itself. */
		out.ready =
			kernel_read(item->rdllink.next) != &item->rdllink || is_on_overflow_list(item);
		bpf_seq_write(seq, &out, sizeof(out));
		node = kernel_read(node->next);
	}
	if (node)
		record->missing_registrations = 1;
}

/* A walk along the ready list of an epoll set. */
struct ready_walk {
	struct seq_file *seq;
	struct eventpoll *set;
	struct list_head *node;
	u32 set_fd;
	u32 reserved;
};

/* One step of the walk. Returns 1 to stop. */
static long write_ready(u32 i, struct ready_walk *walk)
{
	struct registration_record out = {.type = RECORD_READY, .ready = 1};
	struct list_head *node = walk->node;
	struct epitem *item;

	if (!node || node == &walk->set->rdllist)
		return 1;
	item = kernel_container_of(node, struct epitem, rdllink);
	out.fd = kernel_read(item->ffd.fd);
	out.found_fd = walk->set_fd;
	out.file = (u64)kernel_read(item->ffd.file);
	out.set = (u64)kernel_read(item->ep);
	out.mask = kernel_read(item->event.events);
	out.data = kernel_read(item->event.data);
	/* The list is not locked: a step may lead to another list, whose head is no entry of the set. */
	if (out.set == (u64)walk->set)
		bpf_seq_write(walk->seq, &out, sizeof(out));
	walk->node = kernel_read(node->next);
	return 0;
}

/*
 * Writes what is on the ready list of an epoll set. That is how a registration is found whose file only
 * another process still has open: it cannot be found through a file of this one, and it is ready when
 * it matters.
 */
static __always_inline void write_ready_list(struct seq_file *seq, const struct file_record *record)
{
	struct ready_walk walk = {.seq = seq, .set = (void *)record->set, .set_fd = record->fd};

	walk.node = kernel_read(walk.set->rdllist.next);
	bpf_loop(MAX_READY, write_ready, &walk, 0);
}

/* One open file of the process. */
SEC("iter/task_file")
int on_task_file(struct bpf_iter__task_file *ctx)
{
	struct file_record record = {.type = RECORD_FILE};
	struct file *file = ctx->file;
	struct socket *socket;

	if (!ctx->task || !file)
		return 0;
	record.fd = ctx->fd;
	record.file = (u64)file;
	socket = bpf_sock_from_file(file);
	if (socket) {
		record.kind = FILE_SOCKET;
		if (socket->sk)
			describe_socket(socket->sk, &record);
	} else {
		describe_inode(file, &record);
	}
	write_registrations(ctx->meta->seq, file, &record);
	if (record.set)
		write_ready_list(ctx->meta->seq, &record);
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/* One task: how the machine and how its own namespace number it. */
SEC("iter/task")
int on_task(struct bpf_iter__task *ctx)
{
	struct task_record record = {.type = RECORD_TASK};
	struct task_struct *task = ctx->task;
	struct pid *pid;

	if (!task)
		return 0;
	record.tgid = task->tgid;
	pid = kernel_read(task->thread_pid);
	if (pid)
		record.level = kernel_read(pid->level);
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

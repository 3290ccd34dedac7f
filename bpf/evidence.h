/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the programs and the Go side share. The Go declarations are generated from these through BTF
 * (internal/probe/generate.go) and never written by hand. Every structure is laid out without hidden
 * padding.
 */
#ifndef WHYSPIN_EVIDENCE_H
#define WHYSPIN_EVIDENCE_H

#include "helpers.h"

enum limit {
	/*
	 * Slots for threads, and for pairs of thread and epoll set, in one window. A slot is found by
	 * the thread id, so that consecutive ids do not collide; SLOT_PROBES slots are tried. More
	 * threads are counted as full_tables.
	 */
	THREAD_SLOTS = 4096,
	SET_SLOTS = 4096,
	SLOT_PROBES = 8,

	/*
	 * Delivered events are read in chunks of CHUNK_EVENTS; the tail of a longer array is counted
	 * as unread.
	 */
	CHUNK_EVENTS = 64,
	MAX_EVENTS = 4096,

	/*
	 * The largest descriptor table that the loader may ask for, and the descriptors under one
	 * touched flag.
	 */
	MAX_DESCRIPTORS = 1 << 20,
	TOUCHED_BLOCK = 64,

	/* The bytes that a tiny call moves at most. */
	TINY_BYTES = 16,

	/*
	 * The combinations of IN, PRI, OUT, ERR, HUP (bits 0 to 4 of the mask) and RDHUP (0x2000, bit
	 * 5 here).
	 */
	MASKS = 64,

	/* Bytes of the ring for resets: 4096 records of 56 bytes, each with a header of 8. */
	RESET_RING_BYTES = 256 << 10,

	/*
	 * Registrations of one file that are reported; more epoll sets than this do not share a
	 * descriptor.
	 */
	MAX_REGISTRATIONS = 16,

	/*
	 * Threads that one descriptor was delivered to, kept apart. Two suffice to see that more than
	 * one is woken; seven fill struct descriptor to 512 bytes. The rest is counted together.
	 */
	DELIVERERS = 7,

	/*
	 * Destinations of connect in one window. A process that tries more of them than this is not
	 * retrying one; calls to further ones are counted as lost.
	 */
	DESTINATIONS = 1024,

	/* Bytes of the path of a unix socket: UNIX_PATH_MAX of include/uapi/linux/un.h. */
	PATH_BYTES = 108,

	/*
	 * Messages of one recvmmsg or sendmmsg whose bytes are added up: UIO_MAXIOV, the most that the
	 * kernel takes.
	 */
	MAX_MESSAGES = 1024,

	/*
	 * Descriptors in one message that are counted as passed on; programs pass one or few. The
	 * kernel takes 253.
	 */
	MAX_PASSED = 8,

	/*
	 * Stands for "the descriptors given to poll or select" where an epoll descriptor stands
	 * otherwise. No descriptor has this number: sysctl_nr_open_max is below it.
	 */
	POLL_SET = 0x7fffffff,

	/*
	 * Entries of one epoll set's ready list that are reported. A registration that keeps a loop
	 * awake is among the first: the list goes round.
	 */
	MAX_READY = 256,

	ADDRESS_BYTES = 16,
	FILE_NAME_BYTES = 16,
};

/* How a wait was called, in the order of evidence.TimeoutClass. */
enum timeout_class {
	TIMEOUT_ZERO,
	TIMEOUT_POSITIVE,
	TIMEOUT_INFINITE,
	TIMEOUT_UNKNOWN, /* the timespec could not be read, or is none */
	TIMEOUT_CLASSES,
};

/* What a wait returned, in the order of evidence.ResultClass. */
enum result_class {
	RESULT_NONE,
	RESULT_EVENTS,
	RESULT_ERROR,
	RESULT_CLASSES,
};

/*
 * Calls of one direction on one descriptor. Counts are calls; a window ends long before 32 bits are
 * full.
 */
struct io {
	u64 bytes;
	u32 calls;
	u32 tiny; /* moved 1 to TINY_BYTES bytes */
	u32 zero;
	u32 again; /* EAGAIN */
	u32 reset; /* ECONNRESET */
	u32 pipe;  /* EPIPE */
	u32 errors;
	u32 reserved;
};

/*
 * What is stored in the epoll data of a set, as far as is known; it decides how an event finds its
 * descriptor.
 */
enum set_kind {
	SET_UNKNOWN, /* events are counted, not attributed */
	SET_DIRECT,  /* the low 32 bits are the descriptor */
	SET_MAPPED,  /* the map of registrations knows every one */
	SET_MIXED,   /* the map knows those whose low 32 bits are not the descriptor */
};

/* One of the threads that a descriptor was delivered to. Only the thread itself writes. */
struct deliverer {
	u32 tid;   /* in the machine's own namespace; 0: free */
	u32 count; /* deliveries to it */
	u32 calls; /* its calls on the descriptor, from the first delivery on */
};

/* One descriptor number over the window. Shared by every thread: atomic adds only, but for the row. */
struct descriptor {
	struct io read;
	struct io write;
	u32 accepts;
	u32 accept_errors;
	u32 connects;
	u32 closes;
	u32 shutdowns;
	u32 controls;	   /* epoll_ctl with this descriptor as its object */
	u32 dups;	   /* copied, or passed to another process */
	u32 touched;	   /* 1: something was counted */
	u32 set_kind;	   /* enum set_kind, of a descriptor that is an epoll set */
	s32 epoll_fd_1;	   /* the epoll set that delivered it last, plus 1; 0: none did */
	u32 set_id;	   /* names the epoll set that the descriptor is: duplicates have one name */
	u32 destination_1; /* index of the destination it is being connected to, plus 1; 0: none */

	/*
	 * The registration seen last, at the begin of the window or by epoll_ctl: its data and the
	 * name of its set, 0 for none.
	 */
	u64 data;
	u32 data_set;
	/*
	 * Counts what ends a registration under this number: close, EPOLL_CTL_DEL, a new file by dup2.
	 */
	u32 generation;
	u32 closed; /* 1: the number was closed, and nothing was registered under it since */
	u32 stale;  /* deliveries while it was closed */
	/*
	 * The row of deliveries with one mask that no call interrupted: its mask's index plus 1 in the
	 * upper half, in the lower what deliveries[] said when it began; 0: none. A delivery in one
	 * thread and a call in another may meet, and the row then counts from either; it never spans
	 * a call by more deliveries than there are threads.
	 */
	u64 row;
	u32 longest_row;
	u32 other_deliveries; /* to threads for which there was no room */
	u32 passed;	      /* of dups: in messages to another process */
	struct deliverer deliverers[DELIVERERS];
	u32 deliveries[MASKS]; /* 512 bytes in all, eight cache lines */
};

/*
 * One thread over the window. Only the thread itself writes, at the exit of its own calls: plain adds
 * are exact.
 */
struct thread {
	u32 tid;      /* in the machine's own namespace; 0: free */
	u32 seen_tid; /* as the observer's namespace has it */
	u64 calls;    /* that are not waits on an epoll set */
	u64 switches; /* voluntary switches at its last call, plus 1; 0: no call yet */
	u64 yields;   /* sched_yield */
	u64 futexes;
	u64 rings;    /* io_uring_enter */
	u64 forks;    /* that made a process */
	u64 progress; /* calls that moved bytes, accepted, connected or closed */
};

/* One thread's waits on one epoll set. Only the thread itself writes. */
struct wait_set {
	u64 key; /* tid << 32 | epoll descriptor; 0: free */
	u64 waits[TIMEOUT_CLASSES][RESULT_CLASSES];
	u64 slept;
	u64 slept_unknown; /* waits that were the thread's first call in the window */
	u64 events;
	u64 unattributed; /* of the events: nothing is known of their data */
	u64 ambiguous;	  /* of the events: several registrations have their data */
};

/* What an event carries, and which set it came from. */
struct registration_key {
	u64 data;
	u32 set_id;
	u32 reserved;
};

/* The descriptor that such an event is about. */
struct registration {
	s32 fd;		/* AMBIGUOUS when there are several */
	u32 generation; /* the descriptor's, when it was registered */
};

enum attribution {
	UNATTRIBUTED = -1,
	AMBIGUOUS = -2,
};

/* Where a connect went. */
struct destination_key {
	u16 family;
	u16 port;	/* host order */
	u32 path_bytes; /* of a unix socket */
	u8 address[PATH_BYTES];
	u32 reserved;
};

struct destination {
	struct destination_key key;
	u32 connects;	 /* attempts */
	u32 refused;	 /* that failed at once */
	u32 failed;	 /* that failed later, as the process learnt */
	u32 established; /* as the process learnt */
};

/* Arguments saved at the entry of a call, for the classic tracepoints only. */
struct saved_call {
	u64 nr_1; /* system call number plus 1; 0: none saved */
	u64 args[6];
};

/* Written by user space. */
struct count_control {
	u32 tgid;  /* the process to count, in the machine's own namespace; 0: nobody */
	u32 level; /* of the observer's pid namespace */
	/*
	 * 0: only follow what happens to registrations and descriptors, so that user space can look at
	 * them meanwhile.
	 */
	u32 counting;
	u32 reserved;
};

/* Facts that could not be recorded, in calls or events. */
struct losses {
	u64 compat_calls;
	u64 unread_events;
	u64 beyond_table;
	u64 full_tables;
	u64 blind_calls; /* classic tracepoints: exits of calls whose entry was not seen */
	u64 full_registrations;
	u64 full_destinations;
	u64 unread_arguments; /* calls whose arguments in memory could not be read */
	u64 range_closes;     /* calls of close_range, of which it is not known what they closed */
};

/* What the maps hold, so that user space clears no more than that. */
struct count_state {
	u32 set_id;	   /* the last name given to an epoll set */
	u32 destinations;  /* slots taken, may exceed DESTINATIONS */
	u32 registrations; /* 1: there are some */
	u32 reserved;
};

/* Which side of the proxied process a socket is on. */
enum side {
	SIDE_UNKNOWN,
	SIDE_CLIENT, /* a listener, or accepted by one */
	SIDE_SERVER, /* connected by the process */
};

/*
 * Kept in the storage of a socket of the process. The storage of a listener is cloned into what it
 * accepts.
 */
struct mark {
	u32 side; /* enum side */
};

struct watch_control {
	u32 tgid; /* the process whose outgoing sockets are marked, in the machine's own namespace; 0:
		     nobody */
	u32 reserved;
};

/* Written by user space. */
struct clock_control {
	u32 tgid; /* the process whose samples are kept, in the machine's own namespace; 0: nobody's */
	u32 reserved;
};

/* Resets on marked sockets since the programs were attached. */
struct reset_totals {
	u64 sent;
	u64 received;
	u64 dropped;	  /* counted above but without a record: the ring was full */
	u64 failed_marks; /* sockets of the process that could not be marked */
};

struct reset {
	u64 time_ns; /* CLOCK_MONOTONIC */
	u64 cookie;
	u8 local[ADDRESS_BYTES]; /* IPv4 in the first four bytes */
	u8 remote[ADDRESS_BYTES];
	u16 local_port; /* host order */
	u16 remote_port;
	u16 family;
	u8 sent; /* 1: by this machine, 0: received */
	u8 side; /* enum side */
};

enum file_kind {
	FILE_OTHER,
	FILE_REGULAR,
	FILE_DIRECTORY,
	FILE_CHARACTER,
	FILE_BLOCK,
	FILE_PIPE,
	FILE_ANONYMOUS, /* named in file_record.name: "[eventfd]" ... */
	FILE_EPOLL,
	FILE_TCP,
	FILE_UDP,
	FILE_UNIX,
	FILE_SOCKET, /* of another family */
};

enum record_type {
	RECORD_FILE = 1,
	RECORD_REGISTRATION,
	RECORD_TASK,
	RECORD_READY, /* a registration_record, found on the ready list of an epoll set */
};

/* One open descriptor. */
struct file_record {
	u32 type; /* RECORD_FILE */
	u32 fd;
	u32 kind;  /* enum file_kind */
	u32 state; /* TCP state, include/net/tcp_states.h */
	u64 set;   /* names an epoll set while it exists; 0 for other files */
	u64 file;  /* names the file while it exists */
	u64 cookie;
	u32 receive_bytes; /* TCP; a listener's: connections waiting */
	u32 send_bytes;
	u32 missing_registrations; /* beyond MAX_REGISTRATIONS */
	u32 socket_type;	   /* SOCK_STREAM ... */
	u16 family;
	u16 local_port; /* host order */
	u16 remote_port;
	u16 reserved;
	u8 local[ADDRESS_BYTES];
	u8 remote[ADDRESS_BYTES];
	char name[FILE_NAME_BYTES];
	u32 unmarked; /* 1: its socket could not be marked */
	u32 backlog;  /* of a listener: the most connections that may wait */
};

/*
 * One entry of an epoll set, found through a file that the process has open or, as RECORD_READY, through
 * the set.
 */
struct registration_record {
	u32 type;     /* RECORD_REGISTRATION */
	u32 fd;	      /* the number it was registered under, which may be closed or another file since */
	u32 found_fd; /* a number that the registered file has now; RECORD_READY: that of the set */
	u32 ready;    /* 1: on the set's ready list or overflow list */
	u64 set;      /* as in file_record */
	u64 file;     /* as in file_record */
	u64 data;
	u32 mask;
	u32 reserved;
};

/* One task. */
struct task_record {
	u32 type;  /* RECORD_TASK */
	u32 tgid;  /* in the machine's own namespace */
	u32 level; /* of the namespace it was created in */
	u32 reserved;
};

/* Kept in the storage of a socket: what the process received and sent on it in this window. */
struct traffic {
	u64 received_bytes;
	u64 sent_bytes;
};

struct traffic_control {
	u32 tgid;   /* the process to count, in the machine's own namespace; 0: nobody */
	u32 forget; /* 1: a pass over the sockets sets them back to 0 */
};

struct traffic_totals {
	u64 received_bytes;
	u64 sent_bytes;
	u64 unstored; /* calls on sockets that could not be given storage */
};

/* One socket. */
struct traffic_record {
	u64 cookie;
	struct traffic traffic;
};

#endif

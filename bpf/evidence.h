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
 * What is stored in the epoll data of a set, as far as user space knows; it decides how an event finds
 * its descriptor.
 */
enum set_kind {
	SET_UNKNOWN, /* events are counted, not attributed */
	SET_DIRECT,  /* the low 32 bits are the descriptor */
};

/* One descriptor number over the window. Shared by every thread: atomic adds only. */
struct descriptor {
	struct io read;
	struct io write;
	u32 accepts;
	u32 accept_errors;
	u32 connects;
	u32 closes;
	u32 shutdowns;
	u32 controls; /* epoll_ctl with this descriptor as its object */
	u32 dups;
	u32 touched;	 /* 1: something was counted */
	u32 set_kind;	 /* enum set_kind, of a descriptor that is an epoll set; written by user space */
	s32 epoll_fd_1;	 /* the epoll set that delivered it last, plus 1; 0: none did */
	u32 reserved[2]; /* 384 bytes in all, six cache lines */
	u32 deliveries[MASKS];
};

/*
 * One thread over the window. Only the thread itself writes, at the exit of its own calls: plain adds
 * are exact.
 */
struct thread {
	u32 tid;      /* in the machine's own namespace; 0: free */
	u32 seen_tid; /* as the observer's namespace has it */
	u64 calls;    /* that are not waits */
	u64 switches; /* voluntary switches at its last call, plus 1; 0: no call yet */
};

/* One thread's waits on one epoll set. Only the thread itself writes. */
struct wait_set {
	u64 key; /* tid << 32 | epoll descriptor; 0: free */
	u64 waits[TIMEOUT_CLASSES][RESULT_CLASSES];
	u64 slept;
	u64 slept_unknown; /* waits that were the thread's first call in the window */
	u64 events;
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
};

/* Facts that could not be recorded, in calls or events. */
struct losses {
	u64 compat_calls;
	u64 unread_events;
	u64 beyond_table;
	u64 full_tables;
	u64 blind_calls; /* classic tracepoints: exits of calls whose entry was not seen */
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
};

/* One open descriptor. */
struct file_record {
	u32 type; /* RECORD_FILE */
	u32 fd;
	u32 kind;  /* enum file_kind */
	u32 state; /* TCP state, include/net/tcp_states.h */
	u64 set;   /* names an epoll set within one pass; 0 for other files */
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
	u32 reserved2;
};

/* One entry of an epoll set, found through a file that the process has open. */
struct registration_record {
	u32 type;     /* RECORD_REGISTRATION */
	u32 fd;	      /* the number it was registered under, which may be closed or another file since */
	u32 found_fd; /* a number that the registered file has now */
	u32 ready;    /* 1: on the set's ready list or overflow list */
	u64 set;      /* as in file_record */
	u64 file;     /* names the file within one pass */
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

#endif

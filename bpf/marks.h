/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The map that says which sockets are the process's. Resets arrive mostly in softirq, under whatever
 * process happens to run, so the current process says nothing; the socket itself must.
 *
 * There are three ways to be marked: the iterator marks what exists, on_inet_sock_set_state what the
 * process connects, and the kernel clones a listener's storage into every socket that it accepts.
 */
#ifndef WHYSPIN_MARKS_H
#define WHYSPIN_MARKS_H

#include "kernel.h"
#include "evidence.h"

/*
 * One mark per socket, in the socket's own storage: about 64 bytes each, gone with the socket, no
 * limit of entries.
 */
struct {
	__uint(type, MAP_TYPE_SK_STORAGE);
	__uint(map_flags, MAP_NO_PREALLOC | MAP_CLONE);
	__type(key, int);
	__type(value, struct mark);
} marks SEC(".maps");

#endif

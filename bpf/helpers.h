/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a BPF program needs of the compiler and of the kernel's interface: integer types, section and
 * map macros, the helpers that these programs call, and nothing else. It stands in for libbpf's
 * headers so that the objects, which are compared with their source in CI, do not depend on the libbpf
 * that a distribution happens to ship.
 */
#ifndef WHYSPIN_HELPERS_H
#define WHYSPIN_HELPERS_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;
typedef _Bool bool;

#define NULL  ((void *)0)
#define true  1
#define false 0

#define SEC(name)	__attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline	__attribute__((noinline))
/*
 * A function that the verifier checks once, for every argument it might get, and not again wherever it
 * is called. Pointers that it takes may be NULL as far as the verifier knows.
 */
#define __global __attribute__((noinline, visibility("default")))

/*
 * The members of a map definition carry their value in their type, which is how it reaches the loader
 * through BTF.
 */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

#define offsetof(type, member) __builtin_offsetof(type, member)

/*
 * container_of for kernel objects: the offset is the running kernel's. Only for types that carry
 * preserve_access_index.
 */
#define kernel_container_of(pointer, type, member)                                                      \
	((type *)((char *)(pointer) -                                                                   \
		  __builtin_preserve_field_info(((type *)0)->member, 0 /* byte offset */)))

/* True exactly when the running kernel's type has the field. */
#define kernel_has_field(type, member)                                                                  \
	__builtin_preserve_field_info(((type *)0)->member, 2 /* existence */)

/* True exactly when the running kernel has the type. */
#define kernel_has_type(type) __builtin_preserve_type_info(*(type *)0, 0 /* existence */)

/* The size of the running kernel's type. */
#define kernel_sizeof(type) __builtin_preserve_type_info(*(type *)0, 1 /* size */)

/*
 * Reads one field of a kernel object that the verifier knows nothing about; 0 when it cannot be read.
 */
#define kernel_read(source)                                                                             \
	({                                                                                              \
		typeof(source) value_ = 0;                                                              \
		bpf_probe_read_kernel(&value_, sizeof(value_), &(source));                              \
		value_;                                                                                 \
	})

/*
 * Makes the compiler forget what it knows of a value, so that a comparison that follows stays in the
 * program. The verifier of Linux 6.1 loses the bounds of what is put together with a bitwise or.
 */
#define forget(value) asm volatile("" : "+r"(value))

/* Values of enum bpf_map_type, map flags and update flags: include/uapi/linux/bpf.h */
enum {
	MAP_TYPE_HASH = 1,
	MAP_TYPE_ARRAY = 2,
	MAP_TYPE_PERCPU_ARRAY = 6,
	MAP_TYPE_SK_STORAGE = 24,
	MAP_TYPE_RINGBUF = 27,

	MAP_NO_PREALLOC = 1U << 0,
	MAP_CLONE = 1U << 9,
	MAP_MMAPABLE = 1U << 10,

	UPDATE_ANY = 0,
	UPDATE_NOEXIST = 1,

	STORAGE_GET_CREATE = 1U << 0,
	RING_NO_WAKEUP = 1U << 0,
};

/*
 * Helper numbers: the list ___BPF_FUNC_MAPPER in include/uapi/linux/bpf.h. The comment is the first
 * kernel.
 */
struct sock;
struct socket;
struct file;
struct task_struct;
struct tcp_sock;
struct seq_file;

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1; /* 3.19 */
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value,
					 u64 flags) = (void *)2;		  /* 3.19 */
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3; /* 3.19 */
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;				  /* 4.1 */
static u64 (*const bpf_get_socket_cookie)(void *sk) = (void *)46;		  /* 5.12 here */
static void *(*const bpf_sk_storage_get)(void *map, void *sk, void *value,
					 u64 flags) = (void *)107;			      /* 5.11 */
static long (*const bpf_probe_read_user)(void *to, u32 size, const void *from) = (void *)112; /* 5.5 */
static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113; /* 5.5 */
static long (*const bpf_probe_read_user_str)(void *to, u32 size,
					     const void *from) = (void *)114; /* 5.5 */
static long (*const bpf_probe_read_kernel_str)(void *to, u32 size,
					       const void *from) = (void *)115; /* 5.5 */
static long (*const bpf_seq_write)(struct seq_file *seq, const void *data,
				   u32 len) = (void *)127;				  /* 5.7 */
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131; /* 5.8 */
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;		  /* 5.8 */
static struct tcp_sock *(*const bpf_skc_to_tcp_sock)(void *sk) = (void *)137;		  /* 5.9 */
static struct task_struct *(*const bpf_get_current_task_btf)(void) = (void *)158;	  /* 5.11 */
static struct socket *(*const bpf_sock_from_file)(struct file *file) = (void *)162;	  /* 5.11 */
static long (*const bpf_loop)(u32 count, void *callback, void *context,
			      u64 flags) = (void *)181;				   /* 5.17 */
static long (*const bpf_get_func_arg)(void *ctx, u32 n, u64 *value) = (void *)183; /* 5.17 */
static long (*const bpf_get_func_ret)(void *ctx, u64 *value) = (void *)184;	   /* 5.17 */
static long (*const bpf_get_func_arg_cnt)(void *ctx) = (void *)185;		   /* 5.17 */

#endif

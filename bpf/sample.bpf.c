// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Level 3: which samples of the CPU clocks are kept. The kernel itself takes the registers, the stack and
 * the callers; this program is asked first, so that a sample of another process costs no more than the
 * question.
 */
#include "kernel.h"
#include "evidence.h"

char _license[] SEC("license") = "Dual BSD/GPL";

struct clock_globals {
	struct clock_control control;
};

struct clock_globals globals __attribute__((aligned(64))) = {};

/*
 * Called by a perf event of each CPU. 0 drops the sample: bpf_overflow_handler() in kernel/events/core.c.
 */
SEC("perf_event")
int on_cpu_clock(void *ctx)
{
	u32 tgid = *(volatile u32 *)&globals.control.tgid;

	return tgid && (u32)bpf_get_current_task_btf()->tgid == tgid;
}

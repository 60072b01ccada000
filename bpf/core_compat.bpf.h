/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * How oom.bpf.c reads the kernel: by CO-RE, so that what differs between kernels is asked of the
 * one that it is loaded into.
 */
#ifndef OTEL_OOM_CORE_COMPAT_BPF_H
#define OTEL_OOM_CORE_COMPAT_BPF_H

#include "vmlinux_min.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* Set by the loader before the programs are loaded. */
const volatile __u64 page_size = 4096;
const volatile __u64 want_command = 0; /* whether to tell the victim's command line */

/* A macro, because CO-RE moves an array's index to the kernel's element size only when the
 * index is a constant before inlining. */
#define RSS_PAGES(mm, member)                                                                      \
	(bpf_core_field_exists(struct mm_struct___atomic, rss_stat.count)                          \
		 ? BPF_CORE_READ((struct mm_struct___atomic *)(mm),                                \
				 rss_stat.count[member].counter)                                   \
		 : BPF_CORE_READ(mm, rss_stat[member].count))

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	if (bpf_core_field_exists(node->__parent))
		return BPF_CORE_READ(node, __parent);
	return BPF_CORE_READ((struct kernfs_node___parent *)node, parent);
}

/* The argument of mark_victim is the victim, or on older kernels only a number: its thread's pid.
 */
static __always_inline int passes_task(void)
{
	return bpf_core_type_exists(btf_trace_mark_victim___task);
}

/* sched_process_exit comes before exit_mm(). */
static __always_inline int exit_precedes_mm(void)
{
	return bpf_core_type_exists(btf_trace_sched_process_exit___group_dead);
}

#endif /* OTEL_OOM_CORE_COMPAT_BPF_H */

/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * Differences between kernels, resolved by CO-RE when libbpf loads the object.
 */
#ifndef OTEL_OOM_CORE_COMPAT_BPF_H
#define OTEL_OOM_CORE_COMPAT_BPF_H

#include "vmlinux_min.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* Set by the loader before it loads the programs. */
const volatile __u64 page_size = 4096;
const volatile __u64 want_command = 0; /* record the victim's command line */

/* A macro, because CO-RE relocates an array index to the kernel's element size only if the index is
 * constant before inlining. */
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

/* True if mark_victim passes the victim's task_struct; older kernels pass only its thread's pid. */
static __always_inline int mark_passes_task(void)
{
	return bpf_core_type_exists(btf_trace_mark_victim___task);
}

/* True if do_exit() calls the tracepoint sched_process_exit before exit_mm(). */
static __always_inline int exit_precedes_mm(void)
{
	return bpf_core_type_exists(btf_trace_sched_process_exit___group_dead);
}

#endif /* OTEL_OOM_CORE_COMPAT_BPF_H */

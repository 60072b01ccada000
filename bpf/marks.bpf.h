/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * Stores the marks of the last victims, which outlive their records.
 */
#ifndef OTEL_OOM_MARKS_BPF_H
#define OTEL_OOM_MARKS_BPF_H

#include "maps.bpf.h"

/* Store a victim's mark and return its time. While a new agent replaces the programs of an old one,
 * both see the same mark: the second returns the time that the first has stored. */
static __always_inline __u64 mark_remember(struct victim *victim, __u32 tgid,
					   struct task_struct *task)
{
	__u64 *count = mark_count();
	struct oom_mark *mark;

	if (!count)
		return victim->marked_ns;
	mark = mark_lookup((*count - 1) % OOM_MAX_MARKS);
	if (mark && victim->start_boottime_ns && mark->tgid == tgid &&
	    mark->start_boottime_ns == victim->start_boottime_ns)
		return mark->boottime_ns;
	mark = mark_lookup(*count % OOM_MAX_MARKS);
	if (!mark)
		return victim->marked_ns;
	mark->boottime_ns = victim->marked_ns;
	mark->monotonic_ns = bpf_ktime_get_ns();
	mark->start_boottime_ns = victim->start_boottime_ns;
	mark->tgid = tgid;
	mark->tid = victim->tid;
	__builtin_memset(mark->comm, 0, sizeof(mark->comm));
	if (task)
		BPF_CORE_READ_STR_INTO(&mark->comm, task, comm);
	++*count;
	return victim->marked_ns;
}

#endif /* OTEL_OOM_MARKS_BPF_H */

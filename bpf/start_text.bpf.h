/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * Copies the arguments and the environment of a victim, which a reader often comes too late for.
 */
#ifndef OTEL_OOM_START_TEXT_BPF_H
#define OTEL_OOM_START_TEXT_BPF_H

#include "maps.bpf.h"

/* With BCC there is no such map: a note or the container has both. */
static __always_inline struct oom_start_text *start_text_lookup(__u32 index);

/* A read of a whole chunk has a constant size, which each verifier can follow. */
static __always_inline void copy_user_text(struct oom_user_text *out, char *chunks, __u32 count,
					   __u64 begin, __u64 end)
{
	__u64 start = begin & ~(__u64)(OOM_CHUNK_LEN - 1);
	__u32 read = 0;

	for (__u32 i = 0; i < count; i++, start += OOM_CHUNK_LEN) {
		if (start >= end)
			break;
		if (bpf_probe_read_user(&chunks[i * OOM_CHUNK_LEN], OOM_CHUNK_LEN, (void *)start) ==
		    0)
			read |= 1U << i;
	}
	out->begin = begin;
	out->end = end;
	out->read_chunks = read;
}

/* Only the current task's memory can be read: the victim must share it with the trigger, as most
 * victims of a cgroup's limit do. */
static __always_inline void fill_start_text(struct oom_victim_record *out, struct mm_struct *mm)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct oom_start_text *text;
	__u64 *count = mark_count();
	__u32 index;

	if (!count || !mm || BPF_CORE_READ(current, mm) != mm)
		return;
	index = *count % OOM_START_TEXTS;
	text = start_text_lookup(index);
	if (!text)
		return;
	/* First: the reader discards a copy whose time changed while it was read. */
	text->boottime_ns = out->header.boottime_ns;
	copy_user_text(&text->arguments, text->argument_chunks, OOM_ARGUMENT_CHUNKS,
		       BPF_CORE_READ(mm, arg_start), BPF_CORE_READ(mm, arg_end));
	copy_user_text(&text->environ, text->environ_chunks, OOM_ENVIRON_CHUNKS,
		       BPF_CORE_READ(mm, env_start), BPF_CORE_READ(mm, env_end));
	out->victim.start_text = index + 1;
}

#endif /* OTEL_OOM_START_TEXT_BPF_H */

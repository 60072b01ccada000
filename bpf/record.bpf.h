/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * Builds and submits records. The content is read from the kernel's own structures, with what
 * core_compat.bpf.h or bcc/compat.h defines: one of them is included before this.
 */
#ifndef OTEL_OOM_RECORD_BPF_H
#define OTEL_OOM_RECORD_BPF_H

#include "ring_share.bpf.h"

static __always_inline void fill_header(struct oom_header *header, enum oom_kind kind, __u32 size)
{
	struct oom_counters *count = counters();

	header->version = OOM_WIRE_VERSION;
	header->kind = kind;
	header->size = size;
	header->cpu = bpf_get_smp_processor_id();
	header->boottime_ns = bpf_ktime_get_boot_ns();
	if (count)
		header->sequence = ++count->sequence;
}

/* A struct pid has a number in each PID namespace that can see it; the last is its own. */
static __always_inline void fill_pid_namespace(struct oom_task *out, struct pid *pid)
{
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid *own = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
			   level * bpf_core_type_size(struct upid);

	out->ns_tgid = BPF_CORE_READ(own, nr);
	out->pid_ns = BPF_CORE_READ(own, ns, ns.inum);
}

static __always_inline void fill_task(struct oom_task *out, struct task_struct *task)
{
	out->start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	out->tgid = BPF_CORE_READ(task, tgid);
	out->tid = BPF_CORE_READ(task, pid);
	out->ppid = BPF_CORE_READ(task, real_parent, tgid);
	out->uid = BPF_CORE_READ(task, real_cred, uid.val);
	out->gid = BPF_CORE_READ(task, real_cred, gid.val);
	out->mnt_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	fill_pid_namespace(out, BPF_CORE_READ(task, group_leader, thread_pid));
	out->score_adj = BPF_CORE_READ(task, signal, oom_score_adj);
	BPF_CORE_READ_STR_INTO(&out->comm, task, comm);
}

/* A percpu_counter's count lacks what the CPUs have not folded in yet, so it can be negative; like
 * get_mm_counter(), show 0 then. */
static __always_inline __u64 bytes_of(__s64 pages)
{
	return pages > 0 ? pages * page_size : 0;
}

static __always_inline void fill_memory(struct oom_memory *out, struct mm_struct *mm)
{
	out->total_vm = BPF_CORE_READ(mm, total_vm) * page_size;
	out->anon = bytes_of(RSS_PAGES(mm, MM_ANONPAGES));
	out->file = bytes_of(RSS_PAGES(mm, MM_FILEPAGES));
	out->shmem = bytes_of(RSS_PAGES(mm, MM_SHMEMPAGES));
	out->swap = bytes_of(RSS_PAGES(mm, MM_SWAPENTS));
	out->page_tables = BPF_CORE_READ(mm, pgtables_bytes.counter);
}

/* A task's cgroup in the hierarchy of the memory controller, which on cgroup v1 and hybrid hosts is
 * not the default hierarchy. */
static __always_inline struct mem_cgroup *memcg_of(struct task_struct *task)
{
	__u32 id = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *css = NULL;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return NULL;
	bpf_core_read(&css, sizeof(css), &set->subsys[id]);
	return css ? (void *)css - bpf_core_field_offset(struct mem_cgroup, css) : NULL;
}

/* Read here, because a container runtime may remove the cgroup as soon as the victim is gone. */
static __always_inline void fill_memcg_usage(struct oom_memcg_usage *out, struct mem_cgroup *memcg)
{
	out->limit_pages = BPF_CORE_READ(memcg, memory.max);
	out->usage_pages = BPF_CORE_READ(memcg, memory.usage.counter);
	out->swap_limit_pages = BPF_CORE_READ(memcg, swap.max);
	out->swap_usage_pages = BPF_CORE_READ(memcg, swap.usage.counter);
}

/* Only the current task's memory can be read: the victim must be in the trigger's process. */
static __always_inline void fill_command(struct oom_victim_record *out, struct task_struct *task,
					 struct mm_struct *mm)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	unsigned long begin, end;
	__u32 offset = out->text_len;
	__u64 len;

	if (!want_command || BPF_CORE_READ(current, tgid) != BPF_CORE_READ(task, tgid))
		return;
	begin = BPF_CORE_READ(mm, arg_start);
	end = BPF_CORE_READ(mm, arg_end);
	len = end - begin;
	if (end <= begin || offset > OOM_TEXT_LEN - COMMAND_LEN)
		return;
	if (len > COMMAND_LEN)
		len = COMMAND_LEN;
	if (bpf_probe_read_user(&out->text[offset], len, (void *)begin) != 0)
		return;
	out->header.flags &= ~OOM_FLAG_NO_COMMAND;
	out->command.offset = offset;
	out->command.len = len;
	out->text_len += len;
}

static __always_inline void fill_victim(struct oom_victim_record *out, struct task_struct *task)
{
	struct mem_cgroup *memcg = memcg_of(task);
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	fill_task(&out->victim, task);
	out->header.flags &= ~OOM_FLAG_NO_TASK;
	if (memcg) {
		fill_memcg_usage(&out->memcg_usage, memcg);
		fill_memcg(out, &out->memcg, node_of(memcg), MEMCG_END, OOM_FLAG_MEMCG_CUT);
		out->header.flags &= ~OOM_FLAG_NO_MEMCG;
	}
	if (mm) {
		fill_memory(&out->memory, mm);
		fill_exe(out, mm);
		fill_command(out, task, mm);
		out->header.flags &= ~OOM_FLAG_NO_MM;
	}
}

static __always_inline void fill_trigger(struct oom_victim_record *out)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct mem_cgroup *memcg = memcg_of(current);

	fill_task(&out->trigger, current);
	if (memcg) {
		fill_other_memcg(out, &out->trigger_memcg, node_of(memcg), TRIGGER_MEMCG_END,
				 OOM_FLAG_TRIGGER_MEMCG_CUT);
		out->header.flags &= ~OOM_FLAG_NO_TRIGGER_MEMCG;
	}
}

static __always_inline void fill_decision(struct oom_victim_record *out,
					  struct decision_state *state)
{
	struct kernfs_node *node = (struct kernfs_node *)state->limit_node;

	out->decision = state->decision;
	out->header.flags &= ~OOM_FLAG_NO_DECISION;
	if (node) {
		fill_other_memcg(out, &out->limit_memcg, node, LIMIT_MEMCG_END,
				 OOM_FLAG_LIMIT_MEMCG_CUT);
		out->header.flags &= ~OOM_FLAG_NO_LIMIT_MEMCG;
	}
}

/* The holder of a decision without a kill: that of the limit, else of the trigger. */
static __always_inline struct kernfs_node *decision_holder(struct decision_state *state)
{
	struct kernfs_node *node = (struct kernfs_node *)state->limit_node;

	if (!node)
		node = node_of(memcg_of((struct task_struct *)bpf_get_current_task()));
	return holder_node(node);
}

/* Returns NULL, or a record in which every part is marked as absent until it is filled. The stacks
 * of the last record on this CPU stay, and the time of its decision, until record_submit(). */
static __always_inline struct oom_victim_record *record_begin(enum oom_kind kind)
{
	struct oom_victim_record *record = scratch_record();
	__u64 decided_ns;

	if (!record)
		return NULL;
	decided_ns = record->header.flags & OOM_FLAG_NO_STACKS ? 0 : record->decision.boottime_ns;
	__builtin_memset(record, 0, offsetof(struct oom_victim_record, user_stack));
	record->decision.boottime_ns = decided_ns;
	fill_header(&record->header, kind, 0);
	record->header.flags = OOM_FLAG_NO_TASK | OOM_FLAG_NO_MM | OOM_FLAG_NO_EXE |
			       OOM_FLAG_NO_MEMCG | OOM_FLAG_NO_DECISION | OOM_FLAG_NO_LIMIT_MEMCG |
			       OOM_FLAG_NO_TRIGGER_MEMCG | OOM_FLAG_NO_COMMAND;
	return record;
}

/* Add the stacks if they are within the holder's share; else move the text to their place. Returns
 * the size of the record. bpf_get_stack() also works on kernels without kprobes and fentry. It
 * takes some 30 us, so `unwound` stacks stay: a group's victims have one trigger.
 */
static __always_inline __u32 fill_stacks(void *context, struct oom_victim_record *record,
					 struct ring_share *share, int unwound)
{
	__u32 text_len = record->text_len;

	if (ring_admits(share, offsetof(struct oom_victim_record, text) + text_len,
			SHARE_COMPLETE)) {
		if (!unwound) {
			bpf_get_stack(context, record->stack, sizeof(record->stack), 0);
			bpf_get_stack(context, record->user_stack, sizeof(record->user_stack),
				      BPF_F_USER_STACK | BPF_F_USER_BUILD_ID);
		}
		return offsetof(struct oom_victim_record, text) + text_len;
	}
	record->header.flags |= OOM_FLAG_NO_STACKS;
	if (text_len <= OOM_TEXT_LEN)
		bpf_probe_read_kernel(record->user_stack, text_len, record->text);
	return offsetof(struct oom_victim_record, user_stack) + text_len;
}

/* Add the trigger, the decision (unless `state` is NULL) and the stacks to a record, and submit it
 * as the holder's. */
static __always_inline int record_submit(void *context, struct oom_victim_record *record,
					 struct decision_state *state, struct kernfs_node *holder)
{
	struct oom_counters *count = counters();
	struct ring_share share;
	__u32 size;
	int unwound;

	fill_trigger(record);
	unwound = state && record->decision.boottime_ns == state->decision.boottime_ns;
	record->decision.boottime_ns = 0;
	if (state)
		fill_decision(record, state);
	read_ring_share(&share, BPF_CORE_READ(holder, id));
	size = fill_stacks(context, record, &share, unwound);
	record->header.size = size;
	if (size <= sizeof(*record) && ring_admits(&share, size, SHARE_KILL) &&
	    ring_submit(context, record, size, &share) == 0)
		return 0;
	record->decision.boottime_ns = 0;
	/* The reader looks for the holders when the counter has changed. */
	count_lost_kill((struct oom_lost_kills *)record, share.holder, holder);
	if (count)
		__sync_fetch_and_add(&count->lost_victims, 1);
	return 0;
}

/* Submit an exit or reaper record. */
static __always_inline int submit_fixed(void *context, struct oom_header *header,
					enum oom_kind kind, __u32 size, __u64 holder)
{
	struct oom_counters *count = counters();
	struct ring_share share;

	fill_header(header, kind, size);
	read_ring_share(&share, holder);
	if ((!ring_admits(&share, size, SHARE_STEP) ||
	     ring_submit(context, header, size, &share) != 0) &&
	    count)
		__sync_fetch_and_add(&count->lost_exits, 1);
	return 0;
}

#endif /* OTEL_OOM_RECORD_BPF_H */

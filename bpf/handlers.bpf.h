/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * What is made of each call: one record for every process that the OOM killer marks, one when the
 * last thread of such a process exits, and what the reaper does in between.
 *
 * mark_oom_victim() (mm/oom_kill.c) is where every kill passes, those of
 * memory.oom.group and of sysrq f too, after SIGKILL is queued and before the
 * victim's mm is torn down: its counters can still be read. It runs in the
 * context of the task that needed the memory, the trigger.
 */
#ifndef OTEL_OOM_HANDLERS_BPF_H
#define OTEL_OOM_HANDLERS_BPF_H

#include "record.bpf.h"
#include "maps.bpf.h"

#define SILENCE_NS 1000000000ULL

static __always_inline __u32 current_tid(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

/* What out_of_memory() and oom_kill_process() know, and no tracepoint passes on. */
static __always_inline void fill_decision(struct pending *now, struct oom_control *control)
{
	struct oom_decision *out = &now->decision;
	struct mem_cgroup *memcg = BPF_CORE_READ(control, memcg);

	__builtin_memset(out, 0, sizeof(*out));
	out->boottime_ns = bpf_ktime_get_boot_ns();
	out->total_pages = BPF_CORE_READ(control, totalpages);
	out->points = BPF_CORE_READ(control, chosen_points);
	out->gfp_mask = BPF_CORE_READ(control, gfp_mask);
	out->order = BPF_CORE_READ(control, order);
	out->constraint = BPF_CORE_READ(control, constraint);
	now->limit_node = (__u64)node_of(memcg);
	if (memcg)
		fill_limits(&out->limits, memcg);
}

static __always_inline int fill_limit(struct oom_victim_record *out, struct pending *now)
{
	struct kernfs_node *node = (struct kernfs_node *)now->limit_node;

	out->decision = now->decision;
	if (!node)
		return OOM_FLAG_NO_LIMIT_MEMCG;
	if (!fill_other_path(out, &out->limit_memcg, node, LIMIT_MEMCG_END))
		return OOM_FLAG_LIMIT_MEMCG_CUT;
	return 0;
}

/* A record to fill, empty but for its stacks, which bpf_get_stack() fills whatever there is. NULL
 * without one. */
static __always_inline struct oom_victim_record *begin(enum oom_kind kind)
{
	struct oom_counters *count = counters();
	struct oom_victim_record *record = scratch();

	if (!count || !record)
		return NULL;
	__builtin_memset(record, 0, offsetof(struct oom_victim_record, user_stack));
	fill_header(&record->header, kind, 0, ++count->sequence);
	return record;
}

static __always_inline void send(void *context, struct oom_victim_record *record)
{
	__u32 size = offsetof(struct oom_victim_record, text) + record->used;
	struct oom_counters *count = counters();

	record->header.size = size;
	if (size <= sizeof(*record) && output(context, record, size) == 0)
		return;
	if (count)
		__sync_fetch_and_add(&count->lost_victims, 1);
}

/* Of the numbers, those of the task that was just killed, of the one that was chosen and exits
 * anyway, and of the trigger's own process, can be turned into a task here. */
static __always_inline struct task_struct *victim_of(__u64 argument, struct pending *now)
{
	struct task_struct *current, *known;

	if (passes_task())
		return (struct task_struct *)argument;
	current = (struct task_struct *)bpf_get_current_task();
	if (now && now->signaller == current_tid()) {
		known = (struct task_struct *)now->signalled;
		if (BPF_CORE_READ(known, pid) == (int)argument)
			return known;
	}
	if (now && now->tid == current_tid()) {
		known = (struct task_struct *)now->candidate;
		if (BPF_CORE_READ(known, pid) == (int)argument)
			return known;
	}
	if (BPF_CORE_READ(current, tgid) == (int)argument)
		return BPF_CORE_READ(current, group_leader);
	return BPF_CORE_READ(current, pid) == (int)argument ? current : NULL;
}

static __always_inline __u32 tgid_of(struct task_struct *task, __u64 argument)
{
	if (task)
		return BPF_CORE_READ(task, tgid);
	/* 6.1 does not know that a task is never NULL, and takes no pointer for a number. */
	return passes_task() ? 0 : (__u32)argument;
}

/* A record that is not a victim's; counted where there is no room. */
static __always_inline void send_small(void *context, struct oom_header *header, __u32 size)
{
	struct oom_counters *count = counters();

	if (!count)
		return;
	header->sequence = ++count->sequence;
	if (output(context, header, size) != 0)
		__sync_fetch_and_add(&count->lost_exits, 1);
}

/* The end of a task, which for all but the victims' last is one look into a small table. */
static __always_inline int on_exit(void *context, struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct oom_exit_record record = {};
	struct victim *known;
	__u64 start, marked;

	known = victim_at(tgid);
	if (!known || BPF_CORE_READ(task, signal, live.counter) != 0)
		return 0;
	start = BPF_CORE_READ(task, group_leader, start_boottime);
	marked = known->marked_ns;
	/* Threads that end side by side can all see that none is left: one deletes. Where the table
	 * is busy nobody could, and the end is told rather twice than not. */
	if (forget_victim(tgid) == -ENOENT)
		return 0;
	/* The mark's number was a thread's, or its end went unseen: this is a later process. */
	if (start > marked)
		return 0;
	fill_header(&record.header, OOM_KIND_EXIT, sizeof(record), 0);
	record.start_boottime_ns = start;
	record.tgid = tgid;
	record.exit_code = BPF_CORE_READ(task, exit_code);
	send_small(context, &record.header, sizeof(record));
	return 0;
}

/* Remember the mark of a victim, and return its time. Programs of two versions that see the same
 * one, while the one takes over from the other, agree on that. */
static __always_inline __u64 remember(struct victim *victim, __u32 tgid, struct task_struct *task)
{
	__u64 *count = mark_count();
	struct oom_mark *mark;

	if (!count)
		return victim->marked_ns;
	mark = mark_at((*count - 1) % OOM_MARKS);
	if (mark && victim->start_boottime_ns && mark->tgid == tgid &&
	    mark->start_boottime_ns == victim->start_boottime_ns)
		return mark->boottime_ns;
	mark = mark_at(*count % OOM_MARKS);
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

static __always_inline int on_mark_victim(void *context, __u64 argument)
{
	struct pending *now = pending();
	struct task_struct *task = victim_of(argument, now);
	struct victim next = {.marked_ns = bpf_ktime_get_boot_ns()};
	struct oom_victim_record *record;
	struct victim *seen;
	__u32 tgid = tgid_of(task, argument);
	int decided;

	if (!now)
		return 0;
	decided = now->tid == current_tid();
	if (decided)
		now->marks++;
	if (task) {
		next.start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
		next.mm = (__u64)BPF_CORE_READ(task, mm);
		next.tid = BPF_CORE_READ(task, pid);
	} else {
		next.tid = tgid;
	}
	/* The mark can come once a thread: tell each process once. A number alone that comes again
	 * is another process, for a thread is marked once. */
	seen = victim_at(tgid);
	if (seen && next.start_boottime_ns && seen->start_boottime_ns == next.start_boottime_ns)
		return 0;
	next.marked_ns = remember(&next, tgid, task);
	keep_victim(tgid, &next);
	keep_tgid(next.tid, tgid);

	record = begin(OOM_KIND_VICTIM);
	if (!record)
		return 0;
	record->header.boottime_ns = next.marked_ns;
	record->header.flags = fill_victim(record, task, tgid);
	record->header.flags |= fill_trigger(record);
	if (decided)
		record->header.flags |= fill_limit(record, now);
	else
		record->header.flags |= OOM_FLAG_NO_DECISION | OOM_FLAG_NO_LIMIT_MEMCG;
	fill_stacks(record, context);
	send(context, record);
	/* SIGKILL comes before the mark. A victim that was quick has passed process_exit() already,
	 * except where exit_mm() comes first: that waits for the lock which this one holds. */
	if (task && exit_precedes_mm())
		on_exit(context, task);
	return 0;
}

/* oom_kill_process() begins: what it decides on, and whom. */
static __always_inline int on_kill_begins(struct oom_control *control, const char *message)
{
	struct pending *now = pending();
	struct task_struct *chosen;

	if (!now)
		return 0;
	now->tid = current_tid();
	now->marks = 0;
	fill_decision(now, control);
	bpf_probe_read_kernel_str(now->decision.message, sizeof(now->decision.message), message);
	chosen = BPF_CORE_READ(control, chosen);
	now->candidate = (__u64)chosen;
	__builtin_memset(&now->chosen, 0, sizeof(now->chosen));
	fill_task(&now->chosen, chosen);
	return 0;
}

/* It ends. Nobody marked: the chosen one had let go of its memory by itself. The task may be gone
 * by now, so that what was read at the beginning has to do. */
static __always_inline int on_kill_ends(void *context)
{
	struct pending *now = pending();
	struct oom_victim_record *record;

	if (!now || now->tid != current_tid())
		return 0;
	now->tid = 0;
	if (now->marks)
		return 0;
	record = begin(OOM_KIND_SKIPPED);
	if (!record)
		return 0;
	record->victim = now->chosen;
	record->header.flags =
		OOM_FLAG_NO_MM | OOM_FLAG_NO_EXE | OOM_FLAG_NO_MEMCG | OOM_FLAG_NO_COMMAND;
	record->header.flags |= fill_trigger(record);
	record->header.flags |= fill_limit(record, now);
	fill_stacks(record, context);
	send(context, record);
	return 0;
}

/* Whether the want of memory in this cgroup is to be told again; else it is counted. */
static __always_inline int breaks_silence(__u64 memcg_id, __u32 *repeats)
{
	struct silence *known, next = {.told_ns = bpf_ktime_get_boot_ns()};

	*repeats = 0;
	known = silence_at(memcg_id);
	if (known) {
		if (next.told_ns - known->told_ns < SILENCE_NS) {
			known->repeats++;
			return 0;
		}
		*repeats = known->repeats;
	}
	keep_silence(memcg_id, &next);
	return 1;
}

/* out_of_memory() ends, having found nobody it may kill. Without a capacity it did not look: the
 * OOM killer is switched off while the host goes to sleep. */
static __always_inline int on_search_ends(void *context, struct oom_control *control, int found)
{
	struct pending *now = pending();
	struct oom_victim_record *record;
	struct kernfs_node *limit;
	__u32 repeats;
	__u64 id;

	if (!now || found || BPF_CORE_READ(control, chosen) || !BPF_CORE_READ(control, totalpages))
		return 0;
	fill_decision(now, control);
	limit = (struct kernfs_node *)now->limit_node;
	id = BPF_CORE_READ(limit, id);
	if (!breaks_silence(id, &repeats))
		return 0;
	now->decision.repeats = repeats;
	record = begin(OOM_KIND_NO_VICTIM);
	if (!record)
		return 0;
	record->header.flags = OOM_FLAG_NO_TASK | OOM_FLAG_NO_MM | OOM_FLAG_NO_EXE |
			       OOM_FLAG_NO_MEMCG | OOM_FLAG_NO_COMMAND;
	record->header.flags |= fill_trigger(record);
	record->header.flags |= fill_limit(record, now);
	fill_stacks(record, context);
	send(context, record);
	return 0;
}

/* Where the mark passes a number: the kernel sends SIGKILL right before it, to a task. */
static __always_inline int on_signal(int signal, __u64 info, __u64 task)
{
	struct pending *now;

	if (signal != SIGKILL || info != SEND_SIG_PRIV)
		return 0;
	now = pending();
	if (now) {
		now->signalled = task;
		now->signaller = current_tid();
	}
	return 0;
}

/* The reaper knows its victim by a thread's pid, and works while the victim is not gone. */
static __always_inline int on_reaper(void *context, __u32 tid, enum oom_reaper_stage stage)
{
	struct oom_reaper_record record = {};
	struct victim *victim;
	__u32 *tgid;

	tgid = tgid_at(tid);
	victim = tgid ? victim_at(*tgid) : NULL;
	if (!victim)
		return 0;
	fill_header(&record.header, OOM_KIND_REAPER, sizeof(record), 0);
	record.start_boottime_ns = victim->start_boottime_ns;
	record.tgid = *tgid;
	record.stage = stage;
	if (victim->mm)
		fill_memory(&record.memory, (struct mm_struct *)victim->mm);
	else
		record.header.flags = OOM_FLAG_NO_MM;
	send_small(context, &record.header, sizeof(record));
	return 0;
}

#endif /* OTEL_OOM_HANDLERS_BPF_H */

/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * The handler of each hook. They write a record for every process that the OOM killer marks, for
 * the exit of its last thread, and for the steps of the reaper in between.
 *
 * Every kill passes mark_oom_victim() (mm/oom_kill.c), also those of memory.oom.group and sysrq f.
 * It runs after SIGKILL is queued and before the victim's mm is torn down, so that the counters can
 * still be read, and in the context of the trigger: the task that needed the memory.
 */
#ifndef OTEL_OOM_HANDLERS_BPF_H
#define OTEL_OOM_HANDLERS_BPF_H

#include "marks.bpf.h"
#include "record.bpf.h"
#ifdef OOM_HAS_START_TEXTS
#include "start_text.bpf.h"
#endif

#define RATELIMIT_NS 1000000000ULL

static __always_inline __u32 current_tid(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

/* Read what out_of_memory() and oom_kill_process() know and no tracepoint passes. */
static __always_inline void read_oom_control(struct decision_state *state,
					     struct oom_control *control)
{
	struct oom_decision *out = &state->decision;
	struct mem_cgroup *memcg = BPF_CORE_READ(control, memcg);

	__builtin_memset(out, 0, sizeof(*out));
	out->boottime_ns = bpf_ktime_get_boot_ns();
	out->totalpages = BPF_CORE_READ(control, totalpages);
	out->chosen_points = BPF_CORE_READ(control, chosen_points);
	out->gfp_mask = BPF_CORE_READ(control, gfp_mask);
	out->order = BPF_CORE_READ(control, order);
	out->constraint = BPF_CORE_READ(control, constraint);
	state->limit_node = (__u64)node_of(memcg);
	if (memcg)
		fill_memcg_usage(&out->limit_memcg_usage, memcg);
}

static __always_inline int has_pid(struct task_struct *task, __u64 pid)
{
	return BPF_CORE_READ(task, pid) == (int)pid;
}

/* Where mark_victim passes a pid, no helper finds its task. The candidates are the task that
 * SIGKILL was just sent to, the chosen task (which may exit by itself), and the trigger's own
 * process. */
static __always_inline struct task_struct *victim_task(__u64 argument, struct decision_state *state)
{
	struct task_struct *task;

	if (mark_passes_task())
		return (struct task_struct *)argument;
	task = (struct task_struct *)state->signal_task;
	if (state->signal_tid == current_tid() && has_pid(task, argument))
		return task;
	task = (struct task_struct *)state->chosen;
	if (state->tid == current_tid() && has_pid(task, argument))
		return task;
	task = (struct task_struct *)bpf_get_current_task();
	if (has_pid(task, argument))
		return task;
	task = BPF_CORE_READ(task, group_leader);
	return has_pid(task, argument) ? task : NULL;
}

/* Called for every thread that exits on the host: all but a victim's last cost one map lookup. */
static __always_inline int on_process_exit(void *context, struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct victim *victim = victim_lookup(tgid);
	struct oom_exit_record record = {};
	__u64 start, marked, holder;

	if (!victim || BPF_CORE_READ(task, signal, live.counter) != 0)
		return 0;
	start = BPF_CORE_READ(task, group_leader, start_boottime);
	marked = victim->marked_ns;
	holder = victim->holder;
	/* Threads that exit at the same time can all read that none is left: the one that deletes
	 * the victim writes the record. If the bucket is busy the delete fails; prefer a duplicate
	 * exit record to none. */
	if (victim_delete(tgid) == -ENOENT)
		return 0;
	/* A later process with this number: the victim's exit was missed, or the mark passed the
	 * id of another thread than the leader. */
	if (start > marked)
		return 0;
	record.start_boottime_ns = start;
	record.tgid = tgid;
	record.exit_code = BPF_CORE_READ(task, exit_code);
	return submit_fixed(context, &record.header, OOM_KIND_EXIT, sizeof(record), holder);
}

static __always_inline int on_mark_victim(void *context, __u64 argument)
{
	struct decision_state *state = current_decision();
	struct victim *marked, victim = {.marked_ns = bpf_ktime_get_boot_ns()};
	struct oom_victim_record *record;
	struct kernfs_node *holder = NULL;
	struct task_struct *task;
	__u32 tgid;
	int decided;

	if (!state)
		return 0;
	task = victim_task(argument, state);
	decided = state->tid == current_tid();
	if (decided)
		state->marks++;
	if (task) {
		victim.start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
		victim.mm = (__u64)BPF_CORE_READ(task, mm);
		victim.tid = BPF_CORE_READ(task, pid);
		holder = holder_node(node_of(memcg_of(task)));
		victim.holder = BPF_CORE_READ(holder, id);
		tgid = BPF_CORE_READ(task, tgid);
	} else {
		/* The verifier of 6.1 does not know that a passed task is never NULL, and rejects
		 * the conversion of a pointer to a number. */
		tgid = mark_passes_task() ? 0 : argument;
		victim.tid = tgid;
	}
	/* Each thread of a process can be marked: only the first mark makes a record. A pid without
	 * a task that is marked again is another process. */
	marked = victim_lookup(tgid);
	if (marked && victim.start_boottime_ns &&
	    marked->start_boottime_ns == victim.start_boottime_ns)
		return 0;
	victim.marked_ns = mark_remember(&victim, tgid, task);
	victim_update(tgid, &victim);
	thread_tgid_update(victim.tid, tgid);

	record = record_begin(OOM_KIND_VICTIM);
	if (!record)
		return 0;
	record->header.boottime_ns = victim.marked_ns;
	record->victim.tgid = tgid;
	if (task) {
		fill_victim(record, task);
#ifdef OOM_HAS_START_TEXTS
		fill_start_text(record, (struct mm_struct *)victim.mm);
#endif
	}
	record_submit(context, record, decided ? state : NULL, holder);
	/* SIGKILL comes before the mark: a quick victim may already have passed sched_process_exit.
	 * Not if exit_mm() comes first, which waits for the task_lock() that is held here. */
	if (task && exit_precedes_mm())
		on_process_exit(context, task);
	return 0;
}

static __always_inline int on_oom_kill_process_enter(struct oom_control *control,
						     const char *message)
{
	struct decision_state *state = current_decision();

	if (!state)
		return 0;
	state->tid = current_tid();
	state->marks = 0;
	read_oom_control(state, control);
	bpf_probe_read_kernel_str(state->decision.message, sizeof(state->decision.message),
				  message);
	state->chosen = (__u64)BPF_CORE_READ(control, chosen);
	__builtin_memset(&state->chosen_task, 0, sizeof(state->chosen_task));
	fill_task(&state->chosen_task, (struct task_struct *)state->chosen);
	return 0;
}

/* Without a mark the chosen process was skipped: it had already released its memory. */
static __always_inline int on_oom_kill_process_exit(void *context)
{
	struct decision_state *state = current_decision();
	struct oom_victim_record *record;

	if (!state || state->tid != current_tid())
		return 0;
	state->tid = 0;
	if (state->marks)
		return 0;
	record = record_begin(OOM_KIND_SKIPPED);
	if (!record)
		return 0;
	record->victim = state->chosen_task;
	record->header.flags &= ~OOM_FLAG_NO_TASK;
	return record_submit(context, record, state, decision_holder(state));
}

/* Returns 0 and counts the repetition if a record of this cgroup (0: host) must be suppressed. */
static __always_inline int no_victim_ratelimit_ok(__u64 memcg_id, __u32 *repeats)
{
	struct ratelimit *last = ratelimit_lookup(memcg_id);
	struct ratelimit next = {.reported_ns = bpf_ktime_get_boot_ns()};

	if (last && next.reported_ns - last->reported_ns < RATELIMIT_NS) {
		last->repeats++;
		return 0;
	}
	*repeats = last ? last->repeats : 0;
	ratelimit_update(memcg_id, &next);
	return 1;
}

/* No task was found that may be killed. Without totalpages out_of_memory() did not search: the OOM
 * killer is disabled while the host suspends. */
static __always_inline int on_out_of_memory_exit(void *context, struct oom_control *control,
						 int killed)
{
	struct decision_state *state = current_decision();
	struct oom_victim_record *record;
	struct kernfs_node *node;

	if (!state || killed || BPF_CORE_READ(control, chosen) ||
	    !BPF_CORE_READ(control, totalpages))
		return 0;
	read_oom_control(state, control);
	node = (struct kernfs_node *)state->limit_node;
	if (!no_victim_ratelimit_ok(BPF_CORE_READ(node, id), &state->decision.repeats))
		return 0;
	record = record_begin(OOM_KIND_NO_VICTIM);
	return record ? record_submit(context, record, state, decision_holder(state)) : 0;
}

/* A kretprobe cannot read the function's arguments: its kprobe stores them. */
static __always_inline int on_out_of_memory_kprobe(__u64 control)
{
	struct decision_state *state = current_decision();

	if (state)
		state->control = control;
	return 0;
}

static __always_inline int on_out_of_memory_kretprobe(void *context, int killed)
{
	struct decision_state *state = current_decision();

	return state ? on_out_of_memory_exit(context, (struct oom_control *)state->control, killed)
		     : 0;
}

/* Attached only where mark_victim passes a pid: the kernel sends SIGKILL to a task just before. */
static __always_inline int on_signal_generate(int signal, __u64 info, __u64 task)
{
	struct decision_state *state;

	if (signal != SIGKILL || info != SEND_SIG_PRIV)
		return 0;
	state = current_decision();
	if (state) {
		state->signal_task = task;
		state->signal_tid = current_tid();
	}
	return 0;
}

static __always_inline int on_reaper(void *context, __u32 tid, enum oom_reaper_stage stage)
{
	__u32 *tgid = thread_tgid_lookup(tid);
	struct victim *victim = tgid ? victim_lookup(*tgid) : NULL;
	struct oom_reaper_record record = {};

	if (!victim)
		return 0;
	record.start_boottime_ns = victim->start_boottime_ns;
	record.tgid = *tgid;
	record.stage = stage;
	if (victim->mm)
		fill_memory(&record.memory, (struct mm_struct *)victim->mm);
	else
		record.header.flags = OOM_FLAG_NO_MM;
	return submit_fixed(context, &record.header, OOM_KIND_REAPER, sizeof(record),
			    victim->holder);
}

#endif /* OTEL_OOM_HANDLERS_BPF_H */

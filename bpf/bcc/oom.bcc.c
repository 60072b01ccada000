// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Copyright The otel-oom authors

/*
 * The kernel side for BCC, which compiles it on a host whose kernel has no BTF. This file has the
 * maps and the entry points; the handlers that they call are in handlers.bpf.h. BCC rewrites the
 * methods of its tables only in this file, and not inside macros.
 */
#include "bcc/compat.h"
#include "maps.bpf.h"

BPF_RINGBUF_OUTPUT(oom_ring, OOM_RING_PAGES); /* the first map: see ring_query() */
BPF_PERCPU_ARRAY(oom_counters, struct oom_counters, 1);
BPF_ARRAY(oom_reported, struct oom_counters, 1);
BPF_PERCPU_ARRAY(oom_scratch, struct oom_victim_record, 1);
BPF_HASH(oom_victims, u32, struct victim, MAX_VICTIMS);
BPF_TABLE("lru_hash", u32, u32, oom_threads, MAX_VICTIMS);
BPF_F_TABLE("array", u32, struct oom_mark, oom_marks, OOM_MAX_MARKS, BPF_F_MMAPABLE);
BPF_ARRAY(oom_mark_count, u64, 1);
BPF_ARRAY(oom_decision, struct decision_state, 1);
BPF_TABLE("lru_hash", u64, struct ratelimit, oom_ratelimits, MAX_RATELIMITS);
BPF_TABLE("lru_hash", u64, struct ring_usage, oom_ring_usage, MAX_HOLDERS);
BPF_TABLE("lru_hash", u64, struct oom_lost_kills, oom_lost_kills, MAX_LOST_KILLS);

static __always_inline struct oom_counters *counters(void)
{
	u32 zero = 0;

	return oom_counters.lookup(&zero);
}

static __always_inline struct oom_victim_record *scratch_record(void)
{
	u32 zero = 0;

	return oom_scratch.lookup(&zero);
}

static __always_inline long ring_output(void *context, void *record, u32 size)
{
	return oom_ring.ringbuf_output(record, size, 0);
}

/* BCC has no method for this helper. It numbers the maps from -1 downwards until it loads them. */
static __always_inline u64 ring_query(u64 flag)
{
	return bpf_ringbuf_query((void *)bpf_pseudo_fd(1, -1), flag);
}

static __always_inline struct ring_usage *ring_usage_lookup(u64 holder)
{
	return oom_ring_usage.lookup(&holder);
}

static __always_inline void ring_usage_update(u64 holder, struct ring_usage *usage)
{
	oom_ring_usage.update(&holder, usage);
}

static __always_inline struct oom_lost_kills *lost_kills_lookup(u64 holder)
{
	return oom_lost_kills.lookup(&holder);
}

static __always_inline void lost_kills_update(u64 holder, struct oom_lost_kills *lost)
{
	oom_lost_kills.update(&holder, lost);
}

static __always_inline struct decision_state *current_decision(void)
{
	u32 zero = 0;

	return oom_decision.lookup(&zero);
}

static __always_inline struct victim *victim_lookup(u32 tgid)
{
	return oom_victims.lookup(&tgid);
}

static __always_inline void victim_update(u32 tgid, struct victim *victim)
{
	oom_victims.update(&tgid, victim);
}

static __always_inline long victim_delete(u32 tgid)
{
	return oom_victims.delete(&tgid);
}

static __always_inline u32 *thread_tgid_lookup(u32 tid)
{
	return oom_threads.lookup(&tid);
}

static __always_inline void thread_tgid_update(u32 tid, u32 tgid)
{
	oom_threads.update(&tid, &tgid);
}

static __always_inline struct oom_mark *mark_lookup(u32 index)
{
	return oom_marks.lookup(&index);
}

static __always_inline u64 *mark_count(void)
{
	u32 zero = 0;

	return oom_mark_count.lookup(&zero);
}

static __always_inline struct ratelimit *ratelimit_lookup(u64 memcg_id)
{
	return oom_ratelimits.lookup(&memcg_id);
}

static __always_inline void ratelimit_update(u64 memcg_id, struct ratelimit *ratelimit)
{
	oom_ratelimits.update(&memcg_id, ratelimit);
}

#include "handlers.bpf.h"

int oom_kill_process_kprobe(struct pt_regs *ctx)
{
	return on_oom_kill_process_enter((struct oom_control *)PT_REGS_PARM1(ctx),
					 (const char *)PT_REGS_PARM2(ctx));
}

int oom_kill_process_kretprobe(struct pt_regs *ctx)
{
	return on_oom_kill_process_exit(ctx);
}

int out_of_memory_kprobe(struct pt_regs *ctx)
{
	return on_out_of_memory_kprobe(PT_REGS_PARM1(ctx));
}

int out_of_memory_kretprobe(struct pt_regs *ctx)
{
	return on_out_of_memory_kretprobe(ctx, PT_REGS_RC(ctx) & 0xff);
}

int mark_victim_raw(struct bpf_raw_tracepoint_args *ctx)
{
	return on_mark_victim(ctx, ctx->args[0]);
}

int signal_generate(struct bpf_raw_tracepoint_args *ctx)
{
	return on_signal_generate(ctx->args[0], ctx->args[1], ctx->args[2]);
}

int sched_process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	return on_process_exit(ctx, (struct task_struct *)ctx->args[0]);
}

int wake_reaper(struct bpf_raw_tracepoint_args *ctx)
{
	return on_reaper(ctx, ctx->args[0], OOM_REAPER_WAKE);
}

int start_task_reaping(struct bpf_raw_tracepoint_args *ctx)
{
	return on_reaper(ctx, ctx->args[0], OOM_REAPER_START);
}

int finish_task_reaping(struct bpf_raw_tracepoint_args *ctx)
{
	return on_reaper(ctx, ctx->args[0], OOM_REAPER_FINISH);
}

int skip_task_reaping(struct bpf_raw_tracepoint_args *ctx)
{
	return on_reaper(ctx, ctx->args[0], OOM_REAPER_SKIP);
}

// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Copyright The otel-oom authors

/*
 * The kernel side as BCC compiles it on the host it runs on, for kernels without BTF. Here are its
 * maps and what calls it; what it does is in handlers.bpf.h. BCC rewrites its tables' methods in
 * this file alone, and nowhere inside of a macro.
 */
#include "bcc/compat.h"
#include "maps.bpf.h"

BPF_RINGBUF_OUTPUT(oom_ring, OOM_RING_PAGES);
BPF_PERCPU_ARRAY(oom_counters, struct oom_counters, 1);
BPF_ARRAY(oom_told, struct oom_counters, 1);
BPF_PERCPU_ARRAY(oom_scratch, struct oom_victim_record, 1);
BPF_HASH(oom_victims, u32, struct victim, MAX_VICTIMS);
BPF_TABLE("lru_hash", u32, u32, oom_threads, MAX_VICTIMS);
BPF_F_TABLE("array", u32, struct oom_mark, oom_marks, OOM_MARKS, BPF_F_MMAPABLE);
BPF_ARRAY(oom_mark_count, u64, 1);
BPF_ARRAY(oom_pending, struct pending, 1);
BPF_TABLE("lru_hash", u64, struct silence, oom_silences, MAX_SILENCES);

static __always_inline struct oom_counters *counters(void)
{
	u32 zero = 0;

	return oom_counters.lookup(&zero);
}

static __always_inline struct oom_victim_record *scratch(void)
{
	u32 zero = 0;

	return oom_scratch.lookup(&zero);
}

static __always_inline long output(void *context, void *record, u32 size)
{
	return oom_ring.ringbuf_output(record, size, 0);
}

static __always_inline struct pending *pending(void)
{
	u32 zero = 0;

	return oom_pending.lookup(&zero);
}

static __always_inline struct victim *victim_at(u32 tgid)
{
	return oom_victims.lookup(&tgid);
}

static __always_inline void keep_victim(u32 tgid, struct victim *victim)
{
	oom_victims.update(&tgid, victim);
}

static __always_inline long forget_victim(u32 tgid)
{
	return oom_victims.delete(&tgid);
}

static __always_inline u32 *tgid_at(u32 tid)
{
	return oom_threads.lookup(&tid);
}

static __always_inline void keep_tgid(u32 tid, u32 tgid)
{
	oom_threads.update(&tid, &tgid);
}

static __always_inline struct oom_mark *mark_at(u32 index)
{
	return oom_marks.lookup(&index);
}

static __always_inline u64 *mark_count(void)
{
	u32 zero = 0;

	return oom_mark_count.lookup(&zero);
}

static __always_inline struct silence *silence_at(u64 memcg_id)
{
	return oom_silences.lookup(&memcg_id);
}

static __always_inline void keep_silence(u64 memcg_id, struct silence *silence)
{
	oom_silences.update(&memcg_id, silence);
}

#include "handlers.bpf.h"

int kill_begins(struct pt_regs *ctx)
{
	return on_kill_begins((struct oom_control *)PT_REGS_PARM1(ctx),
			      (const char *)PT_REGS_PARM2(ctx));
}

int kill_ends(struct pt_regs *ctx)
{
	return on_kill_ends(ctx);
}

int search_begins(struct pt_regs *ctx)
{
	struct pending *now = pending();

	if (now)
		now->control = PT_REGS_PARM1(ctx);
	return 0;
}

int search_ends(struct pt_regs *ctx)
{
	struct pending *now = pending();

	if (!now)
		return 0;
	return on_search_ends(ctx, (struct oom_control *)now->control, PT_REGS_RC(ctx) & 0xff);
}

int mark_victim(struct bpf_raw_tracepoint_args *ctx)
{
	return on_mark_victim(ctx, ctx->args[0]);
}

int signal_generate(struct bpf_raw_tracepoint_args *ctx)
{
	return on_signal(ctx->args[0], ctx->args[1], ctx->args[2]);
}

/* do_exit() calls this for every thread of the host, after exit_mm() on older kernels, before it on
 * those that pass group_dead too. */
int process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	return on_exit(ctx, (struct task_struct *)ctx->args[0]);
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

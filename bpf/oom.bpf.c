// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Copyright The otel-oom authors

/*
 * The kernel side for libbpf, compiled once for all kernels with BTF (CO-RE). This file has the
 * maps and the entry points; the handlers that they call are in handlers.bpf.h.
 */
#include "core_compat.bpf.h"

#include <bpf/bpf_tracing.h>

#include "maps.bpf.h"

#define OOM_HAS_START_TEXTS /* for handlers.bpf.h; not with BCC */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * All maps but oom_scratch, oom_symbol and oom_mapping_walk outlive these programs: the loader pins
 * them, and the next agent's programs use them on, for a short time together with these. Another
 * layout or meaning of their content therefore needs a new OOM_WIRE_VERSION, which gets maps of its
 * own. The marks are shared by all versions: another layout of them needs another map name.
 */

#define SINGLE(map_type, name, value_type)                                                         \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, value_type);                                                         \
	} name SEC(".maps")

SINGLE(BPF_MAP_TYPE_PERCPU_ARRAY, oom_counters, struct oom_counters);
/* The part of the counters that was reported: written by the reader, for the next reader. */
SINGLE(BPF_MAP_TYPE_ARRAY, oom_reported, struct oom_counters);
SINGLE(BPF_MAP_TYPE_PERCPU_ARRAY, oom_scratch, struct oom_victim_record);
/* The result of resolve_symbol(). */
SINGLE(BPF_MAP_TYPE_ARRAY, oom_symbol, char[OOM_SYMBOL_LEN]);
SINGLE(BPF_MAP_TYPE_ARRAY, oom_mark_count, __u64);
SINGLE(BPF_MAP_TYPE_ARRAY, oom_decision, struct decision_state);
SINGLE(BPF_MAP_TYPE_ARRAY, oom_mapping_walk, struct mapping_walk);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* the loader sets the size */
} oom_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VICTIMS);
	__type(key, __u32);
	__type(value, struct victim);
} oom_victims SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_VICTIMS);
	__type(key, __u32);
	__type(value, __u32);
} oom_threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OOM_MAX_MARKS);
	__type(key, __u32);
	__type(value, struct oom_mark);
} oom_marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OOM_START_TEXTS);
	__type(key, __u32);
	__type(value, struct oom_start_text);
} oom_start_texts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OOM_MAPPING_SLOTS);
	__type(key, __u32);
	__type(value, struct oom_mappings);
} oom_mappings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_RATELIMITS);
	__type(key, __u64);
	__type(value, struct ratelimit);
} oom_ratelimits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_HOLDERS);
	__type(key, __u64);
	__type(value, struct ring_usage);
} oom_ring_usage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_LOST_KILLS);
	__type(key, __u64);
	__type(value, struct oom_lost_kills);
} oom_lost_kills SEC(".maps");

/* Created only with the programs daemon_signal and daemon_sysrq, in a load of their own. */
SINGLE(BPF_MAP_TYPE_PERCPU_ARRAY, oom_sysrq, struct oom_sysrq_request);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, OOM_SIGNAL_RING_BYTES);
} oom_signal_ring SEC(".maps");

#include "map_access.bpf.h"

#include "handlers.bpf.h"
#include "mappings.bpf.h"
#include "signals.bpf.h"

/* Some functions have a program for each way to hook them: the loader takes the first way that the
 * kernel allows. */
SEC("fentry/oom_kill_process")
int oom_kill_process_fentry(__u64 *args)
{
	return on_oom_kill_process_enter((struct oom_control *)args[0], (const char *)args[1]);
}

SEC("fexit/oom_kill_process")
int oom_kill_process_fexit(__u64 *args)
{
	return on_oom_kill_process_exit(args);
}

SEC("fexit/out_of_memory")
int out_of_memory_fexit(__u64 *args)
{
	return on_out_of_memory_exit(args, (struct oom_control *)args[0], args[1] & 0xff);
}

SEC("kprobe/oom_kill_process")
int oom_kill_process_kprobe(struct pt_regs *regs)
{
	return on_oom_kill_process_enter((struct oom_control *)PT_REGS_PARM1(regs),
					 (const char *)PT_REGS_PARM2(regs));
}

SEC("kretprobe/oom_kill_process")
int oom_kill_process_kretprobe(struct pt_regs *regs)
{
	return on_oom_kill_process_exit(regs);
}

SEC("kprobe/out_of_memory")
int out_of_memory_kprobe(struct pt_regs *regs)
{
	return on_out_of_memory_kprobe(PT_REGS_PARM1(regs));
}

SEC("kretprobe/out_of_memory")
int out_of_memory_kretprobe(struct pt_regs *regs)
{
	return on_out_of_memory_kretprobe(regs, PT_REGS_RC(regs) & 0xff);
}

SEC("tp_btf/mark_victim")
int mark_victim_btf(__u64 *args)
{
	return on_mark_victim(args, args[0]);
}

SEC("raw_tp/mark_victim")
int mark_victim_raw(__u64 *args)
{
	return on_mark_victim(args, args[0]);
}

/* Attached first, so that it runs before the program that submits the kill's record. Loaded where
 * the kernel has bpf_loop(). */
SEC("raw_tp/mark_victim")
int mark_victim_mappings(__u64 *args)
{
	return on_mark_mappings(args[0]);
}

/* Run by the loader (BPF_PROG_RUN): if true, signal_generate need not be attached. */
SEC("raw_tp")
int mark_has_task(__u64 *args __attribute__((unused)))
{
	return mark_passes_task();
}

SEC("raw_tp/signal_generate")
int signal_generate(__u64 *args)
{
	return on_signal_generate(args[0], args[1], args[2]);
}

SEC("raw_tp/signal_generate")
int daemon_signal(__u64 *args)
{
	return on_daemon_signal(args[0], (struct task_struct *)args[2], args[4]);
}

SEC("kprobe/__handle_sysrq")
int daemon_sysrq(struct pt_regs *regs)
{
	return on_sysrq(PT_REGS_PARM1(regs));
}

SEC("raw_tp/sched_process_exit")
int sched_process_exit(__u64 *args)
{
	return on_process_exit(args, (struct task_struct *)args[0]);
}

SEC("raw_tp/wake_reaper")
int wake_reaper(__u64 *args)
{
	return on_reaper(args, args[0], OOM_REAPER_WAKE);
}

SEC("raw_tp/start_task_reaping")
int start_task_reaping(__u64 *args)
{
	return on_reaper(args, args[0], OOM_REAPER_START);
}

SEC("raw_tp/finish_task_reaping")
int finish_task_reaping(__u64 *args)
{
	return on_reaper(args, args[0], OOM_REAPER_FINISH);
}

SEC("raw_tp/skip_task_reaping")
int skip_task_reaping(__u64 *args)
{
	return on_reaper(args, args[0], OOM_REAPER_SKIP);
}

/* Run by the reader (BPF_PROG_RUN), so that no kill waits for it. Writes the name of a kernel
 * address, as in a backtrace, to oom_symbol. /proc/kallsyms may be hidden, and is 10 MB to read. */
SEC("raw_tp")
int resolve_symbol(__u64 *args)
{
	static const char format[] SEC(".rodata.format") = "%pB";
	char *name = single_value(&oom_symbol);
	__u64 address = args[0];

	if (!name || !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_snprintf))
		return -1;
	return bpf_snprintf(name, OOM_SYMBOL_LEN, format, &address, sizeof(address));
}

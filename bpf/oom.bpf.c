// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Copyright The otel-oom authors

/*
 * The kernel side as libbpf loads it: compiled once, it finds its way by the BTF of the kernel it
 * runs on. Here are its maps and what calls it; what it does is in handlers.bpf.h.
 */
#include "core_compat.bpf.h"

#include <bpf/bpf_tracing.h>

#include "handlers.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * The maps, but for oom_scratch and oom_symbol, outlive these programs: the loader pins them, and
 * the next one's programs go on with them, for a time beside these. Another layout or meaning of
 * what is in them is a new OOM_WIRE_VERSION, which has maps of its own, but for the marks: those go
 * on, so that another layout of them is a map of another name.
 */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* the loader decides */
} oom_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct oom_counters);
} oom_counters SEC(".maps");

/* Of the counters, what was told; the reader's own, to be found by the next one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct oom_counters);
} oom_told SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct oom_victim_record);
} oom_scratch SEC(".maps");

/* The name that resolve_symbol() found. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[OOM_SYMBOL_LEN]);
} oom_symbol SEC(".maps");

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
	__uint(max_entries, OOM_MARKS);
	__type(key, __u32);
	__type(value, struct oom_mark);
} oom_marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} oom_mark_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pending);
} oom_pending SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_SILENCES);
	__type(key, __u64);
	__type(value, struct silence);
} oom_silences SEC(".maps");

static __always_inline struct oom_counters *counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&oom_counters, &zero);
}

static __always_inline struct oom_victim_record *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&oom_scratch, &zero);
}

static __always_inline long output(void *context __attribute__((unused)), void *record, __u32 size)
{
	return bpf_ringbuf_output(&oom_ring, record, size, 0);
}

static __always_inline struct pending *pending(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&oom_pending, &zero);
}

static __always_inline struct victim *victim_at(__u32 tgid)
{
	return bpf_map_lookup_elem(&oom_victims, &tgid);
}

static __always_inline void keep_victim(__u32 tgid, struct victim *victim)
{
	bpf_map_update_elem(&oom_victims, &tgid, victim, BPF_ANY);
}

static __always_inline long forget_victim(__u32 tgid)
{
	return bpf_map_delete_elem(&oom_victims, &tgid);
}

static __always_inline __u32 *tgid_at(__u32 tid)
{
	return bpf_map_lookup_elem(&oom_threads, &tid);
}

static __always_inline void keep_tgid(__u32 tid, __u32 tgid)
{
	bpf_map_update_elem(&oom_threads, &tid, &tgid, BPF_ANY);
}

static __always_inline struct oom_mark *mark_at(__u32 index)
{
	return bpf_map_lookup_elem(&oom_marks, &index);
}

static __always_inline __u64 *mark_count(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&oom_mark_count, &zero);
}

static __always_inline struct silence *silence_at(__u64 memcg_id)
{
	return bpf_map_lookup_elem(&oom_silences, &memcg_id);
}

static __always_inline void keep_silence(__u64 memcg_id, struct silence *silence)
{
	bpf_map_update_elem(&oom_silences, &memcg_id, silence, BPF_ANY);
}

/* A set of programs a way of attaching: the loader takes the first that this kernel allows. */
SEC("fentry/oom_kill_process")
int kill_begins_fentry(__u64 *args)
{
	return on_kill_begins((struct oom_control *)args[0], (const char *)args[1]);
}

SEC("fexit/oom_kill_process")
int kill_ends_fentry(__u64 *args)
{
	return on_kill_ends(args);
}

SEC("fexit/out_of_memory")
int search_ends_fentry(__u64 *args)
{
	return on_search_ends(args, (struct oom_control *)args[0], args[1] & 0xff);
}

SEC("kprobe/oom_kill_process")
int kill_begins_kprobe(struct pt_regs *regs)
{
	return on_kill_begins((struct oom_control *)PT_REGS_PARM1(regs),
			      (const char *)PT_REGS_PARM2(regs));
}

SEC("kretprobe/oom_kill_process")
int kill_ends_kprobe(struct pt_regs *regs)
{
	return on_kill_ends(regs);
}

SEC("kprobe/out_of_memory")
int search_begins_kprobe(struct pt_regs *regs)
{
	struct pending *now = pending();

	if (now)
		now->control = PT_REGS_PARM1(regs);
	return 0;
}

SEC("kretprobe/out_of_memory")
int search_ends_kprobe(struct pt_regs *regs)
{
	struct pending *now = pending();

	if (!now)
		return 0;
	return on_search_ends(regs, (struct oom_control *)now->control, PT_REGS_RC(regs) & 0xff);
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

/* Run by the loader (BPF_PROG_RUN): whether signal_generate() is not needed. */
SEC("raw_tp")
int mark_has_task(__u64 *args __attribute__((unused)))
{
	return passes_task();
}

SEC("raw_tp/signal_generate")
int signal_generate(__u64 *args)
{
	return on_signal(args[0], args[1], args[2]);
}

/* do_exit() calls this for every thread of the host, after exit_mm() on older kernels, before it on
 * those that pass group_dead too. */
SEC("raw_tp/sched_process_exit")
int process_exit(__u64 *args)
{
	return on_exit(args, (struct task_struct *)args[0]);
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

/* Run by the reader (BPF_PROG_RUN), for a kill should not wait for it: the name of a kernel
 * address, as a backtrace shows it. /proc/kallsyms may be hidden, and is 10 MB to read. */
SEC("raw_tp")
int resolve_symbol(__u64 *args)
{
	static const char format[] SEC(".rodata.format") = "%pB";
	__u64 address = args[0];
	__u32 zero = 0;
	char *name;

	name = bpf_map_lookup_elem(&oom_symbol, &zero);
	if (!name || !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_snprintf))
		return -1;
	return bpf_snprintf(name, OOM_SYMBOL_LEN, format, &address, sizeof(address));
}

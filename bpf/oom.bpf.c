// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Copyright The otel-oom authors

/*
 * One record for every process that the OOM killer marks, and one when the last
 * thread of such a process exits.
 *
 * mark_oom_victim() (mm/oom_kill.c) is where every kill passes, those of
 * memory.oom.group and of sysrq f too, after SIGKILL is queued and before the
 * victim's mm is torn down: its counters can still be read. It runs in the
 * context of the task that needed the memory, the trigger.
 */
#include "fill.h"

#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_VICTIMS 8192 /* victims that are dying at one time */

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

/* Where a record is put together. Kills are serialized by the kernel's oom_lock, and a program
 * stays on its CPU. */
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

struct victim {
	__u64 start_boottime_ns; /* 0: not known, the mark was a number alone */
	__u64 marked_ns;
	__u64 mm; /* pinned by its signal struct until the last of the process is gone */
	__u32 tid;
	__u32 reserved;
};

/* Each marked victim that has not exited, by its tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VICTIMS);
	__type(key, __u32);
	__type(value, struct victim);
} oom_victims SEC(".maps");

/* Their tgids, by the thread that the mark and the reaper know them by. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_VICTIMS);
	__type(key, __u32);
	__type(value, __u32);
} oom_threads SEC(".maps");

/* The last victims, whatever became of their records, and how many there have been: the next one
 * is at that number modulo OOM_MARKS. */
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

/* The decision that is being made. There is never more than one: the kernel makes them under its
 * oom_lock. */
struct pending {
	__u32 tid; /* of the thread that makes it; 0: none is being made */
	__u32 marks;
	__u64 control;	  /* out_of_memory()'s struct oom_control */
	__u64 limit_node; /* of the cgroup whose limit was hit; 0: the host */
	__u64 candidate;  /* the task that is to be killed */
	__u64 signalled;  /* the task that SIGKILL was last sent to by the kernel */
	__u32 signaller;
	__u32 reserved;
	struct oom_decision decision;
	struct oom_task chosen;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pending);
} oom_pending SEC(".maps");

/* When it was last told of a cgroup (0: of the host) that there is none to kill in it. An
 * allocation that may not fail finds that anew many times a second. */
struct silence {
	__u64 told_ns;
	__u32 repeats;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, struct silence);
} oom_silences SEC(".maps");

#define SILENCE_NS 1000000000ULL

static __always_inline struct oom_counters *counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&oom_counters, &zero);
}

static __always_inline struct pending *pending(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&oom_pending, &zero);
}

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
	struct oom_victim_record *record;
	__u32 zero = 0;

	record = bpf_map_lookup_elem(&oom_scratch, &zero);
	if (!count || !record)
		return NULL;
	__builtin_memset(record, 0, offsetof(struct oom_victim_record, user_stack));
	fill_header(&record->header, kind, 0, ++count->sequence);
	return record;
}

static __always_inline void send(struct oom_victim_record *record)
{
	__u32 size = offsetof(struct oom_victim_record, text) + record->used;
	struct oom_counters *count = counters();

	record->header.size = size;
	if (size <= sizeof(*record) && bpf_ringbuf_output(&oom_ring, record, size, 0) == 0)
		return;
	if (count)
		__sync_fetch_and_add(&count->lost_victims, 1);
}

/* The tracepoint's argument is the victim, or on older kernels only a number: its thread's pid. */
static __always_inline int passes_task(void)
{
	return bpf_core_type_exists(btf_trace_mark_victim___task);
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

/* A record that is not a victim's, with its header; NULL, and counted, where there is no room. */
static __always_inline void *reserve(enum oom_kind kind, __u32 size)
{
	struct oom_counters *count = counters();
	struct oom_header *header;
	__u64 sequence;

	if (!count)
		return NULL;
	sequence = ++count->sequence;
	header = bpf_ringbuf_reserve(&oom_ring, size, 0);
	if (!header) {
		__sync_fetch_and_add(&count->lost_exits, 1);
		return NULL;
	}
	fill_header(header, kind, size, sequence);
	return header;
}

/* The end of a task, which for all but the victims' last is one look into a small table. */
static __always_inline int on_exit(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct oom_exit_record *record;
	struct victim *known;
	__u64 start, marked;

	known = bpf_map_lookup_elem(&oom_victims, &tgid);
	if (!known || BPF_CORE_READ(task, signal, live.counter) != 0)
		return 0;
	start = BPF_CORE_READ(task, group_leader, start_boottime);
	marked = known->marked_ns;
	/* Threads that end side by side can all see that none is left: one deletes. Where the table
	 * is busy nobody could, and the end is told rather twice than not. */
	if (bpf_map_delete_elem(&oom_victims, &tgid) == -ENOENT)
		return 0;
	/* The mark's number was a thread's, or its end went unseen: this is a later process. */
	if (start > marked)
		return 0;
	record = reserve(OOM_KIND_EXIT, sizeof(*record));
	if (!record)
		return 0;
	record->start_boottime_ns = start;
	record->tgid = tgid;
	record->exit_code = BPF_CORE_READ(task, exit_code);
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* Remember the mark of a victim, and return its time. Programs of two versions that see the same
 * one, while the one takes over from the other, agree on that. */
static __always_inline __u64 remember(struct victim *victim, __u32 tgid, struct task_struct *task)
{
	__u32 zero = 0, last, next;
	struct oom_mark *mark;
	__u64 *count;

	count = bpf_map_lookup_elem(&oom_mark_count, &zero);
	if (!count)
		return victim->marked_ns;
	last = (*count - 1) % OOM_MARKS;
	mark = bpf_map_lookup_elem(&oom_marks, &last);
	if (mark && victim->start_boottime_ns && mark->tgid == tgid &&
	    mark->start_boottime_ns == victim->start_boottime_ns)
		return mark->boottime_ns;
	next = *count % OOM_MARKS;
	mark = bpf_map_lookup_elem(&oom_marks, &next);
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

static __always_inline int on_mark_victim(__u64 *args)
{
	__u64 argument = args[0];
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
	seen = bpf_map_lookup_elem(&oom_victims, &tgid);
	if (seen && next.start_boottime_ns && seen->start_boottime_ns == next.start_boottime_ns)
		return 0;
	next.marked_ns = remember(&next, tgid, task);
	bpf_map_update_elem(&oom_victims, &tgid, &next, BPF_ANY);
	bpf_map_update_elem(&oom_threads, &next.tid, &tgid, BPF_ANY);

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
	fill_stacks(record, args);
	send(record);
	/* SIGKILL comes before the mark. A victim that was quick has passed process_exit() already,
	 * except where exit_mm() comes first: that waits for the lock which this one holds. */
	if (task && bpf_core_type_exists(btf_trace_sched_process_exit___group_dead))
		on_exit(task);
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
	send(record);
	return 0;
}

/* Whether the want of memory in this cgroup is to be told again; else it is counted. */
static __always_inline int breaks_silence(__u64 memcg_id, __u32 *repeats)
{
	struct silence *known, next = {.told_ns = bpf_ktime_get_boot_ns()};

	*repeats = 0;
	known = bpf_map_lookup_elem(&oom_silences, &memcg_id);
	if (known) {
		if (next.told_ns - known->told_ns < SILENCE_NS) {
			known->repeats++;
			return 0;
		}
		*repeats = known->repeats;
	}
	bpf_map_update_elem(&oom_silences, &memcg_id, &next, BPF_ANY);
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
	send(record);
	return 0;
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
	return on_mark_victim(args);
}

SEC("raw_tp/mark_victim")
int mark_victim_raw(__u64 *args)
{
	return on_mark_victim(args);
}

/* Run by the loader (BPF_PROG_RUN): whether signal_generate() is not needed. */
SEC("raw_tp")
int mark_has_task(__u64 *args __attribute__((unused)))
{
	return passes_task();
}

/* Where the mark passes a number: the kernel sends SIGKILL right before it, to a task. */
SEC("raw_tp/signal_generate")
int signal_generate(__u64 *args)
{
	struct pending *now;

	if ((int)args[0] != SIGKILL || args[1] != SEND_SIG_PRIV)
		return 0;
	now = pending();
	if (now) {
		now->signalled = args[2];
		now->signaller = current_tid();
	}
	return 0;
}

/* do_exit() calls this for every thread of the host, after exit_mm() on older kernels, before it on
 * those that pass group_dead too. */
SEC("raw_tp/sched_process_exit")
int process_exit(__u64 *args)
{
	return on_exit((struct task_struct *)args[0]);
}

/* The reaper knows its victim by a thread's pid, and works while the victim is not gone. */
static __always_inline int on_reaper(__u32 tid, enum oom_reaper_stage stage)
{
	struct oom_reaper_record *record;
	struct victim *victim;
	__u32 *tgid;

	tgid = bpf_map_lookup_elem(&oom_threads, &tid);
	victim = tgid ? bpf_map_lookup_elem(&oom_victims, tgid) : NULL;
	if (!victim)
		return 0;
	record = reserve(OOM_KIND_REAPER, sizeof(*record));
	if (!record)
		return 0;
	record->start_boottime_ns = victim->start_boottime_ns;
	record->tgid = *tgid;
	record->stage = stage;
	__builtin_memset(&record->memory, 0, sizeof(record->memory));
	if (victim->mm)
		fill_memory(&record->memory, (struct mm_struct *)victim->mm);
	else
		record->header.flags = OOM_FLAG_NO_MM;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("raw_tp/wake_reaper")
int wake_reaper(__u64 *args)
{
	return on_reaper(args[0], OOM_REAPER_WAKE);
}

SEC("raw_tp/start_task_reaping")
int start_task_reaping(__u64 *args)
{
	return on_reaper(args[0], OOM_REAPER_START);
}

SEC("raw_tp/finish_task_reaping")
int finish_task_reaping(__u64 *args)
{
	return on_reaper(args[0], OOM_REAPER_FINISH);
}

SEC("raw_tp/skip_task_reaping")
int skip_task_reaping(__u64 *args)
{
	return on_reaper(args[0], OOM_REAPER_SKIP);
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

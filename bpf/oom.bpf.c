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
#include "kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "oom.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by the loader before the program is loaded. */
const volatile __u64 page_size = 4096;

#define MAX_VICTIMS 8192  /* victims that are dying at one time */
#define MAX_DEPTH 32	  /* of a path; CRI in a container in a user session: about 12 */
#define COMPONENT_LEN 256 /* NAME_MAX and its NUL */

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

/* Where a record is put together. Kills are serialized by the kernel's oom_lock, and a CPU runs
 * one of these programs at a time. */
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

/* tgid of each marked victim that has not exited, and when that process started. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VICTIMS);
	__type(key, __u32);
	__type(value, __u64);
} oom_victims SEC(".maps");

static __always_inline struct oom_counters *counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&oom_counters, &zero);
}

static __always_inline void fill_header(struct oom_header *header, enum oom_kind kind, __u32 size,
					__u64 sequence)
{
	header->version = OOM_WIRE_VERSION;
	header->kind = kind;
	header->size = size;
	header->cpu = bpf_get_smp_processor_id();
	header->flags = 0;
	header->sequence = sequence;
	header->boottime_ns = bpf_ktime_get_boot_ns();
}

/* A struct pid has a number for each PID namespace it is seen in; the last is its own. */
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
	out->reserved = 0;
	fill_pid_namespace(out, BPF_CORE_READ(task, group_leader, thread_pid));
	out->score_adj = BPF_CORE_READ(task, signal, oom_score_adj);
	BPF_CORE_READ_STR_INTO(&out->comm, task, comm);
}

/* A percpu_counter's count leaves out what each CPU has not yet folded in, so it may be
 * negative; get_mm_counter() shows 0 then, and so does this. */
static __always_inline __u64 bytes_of(__s64 pages)
{
	return pages > 0 ? pages * page_size : 0;
}

/* A macro, because CO-RE moves an array's index to the kernel's element size only when the
 * index is a constant before inlining. */
#define RSS_BYTES(mm, member)                                                                      \
	bytes_of(bpf_core_type_exists(struct mm_rss_stat)                                          \
			 ? BPF_CORE_READ((struct mm_struct___atomic *)(mm),                        \
					 rss_stat.count[member].counter)                           \
			 : BPF_CORE_READ(mm, rss_stat[member].count))

static __always_inline void fill_memory(struct oom_memory *out, struct mm_struct *mm)
{
	out->total_vm = BPF_CORE_READ(mm, total_vm) * page_size;
	out->anon = RSS_BYTES(mm, MM_ANONPAGES);
	out->file = RSS_BYTES(mm, MM_FILEPAGES);
	out->shmem = RSS_BYTES(mm, MM_SHMEMPAGES);
	out->swap = RSS_BYTES(mm, MM_SWAPENTS);
	out->page_tables = BPF_CORE_READ(mm, pgtables_bytes.counter);
}

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	if (bpf_core_field_exists(node->__parent))
		return BPF_CORE_READ(node, __parent);
	return BPF_CORE_READ((struct kernfs_node___parent *)node, parent);
}

/* Put one more component behind those that the path has. Returns 0 when there is no room below
 * `limit`. The length lives in the record, not in a register: there the verifier takes it for any
 * number, and need not follow every combination of lengths through the loops below. */
static __always_inline int append(struct oom_victim_record *out, struct oom_path *path, __u32 limit,
				  const void *name)
{
	__u32 end = path->offset + path->len;
	long got;

	if (end > limit - COMPONENT_LEN)
		return 0;
	got = bpf_probe_read_kernel_str(&out->text[end], COMPONENT_LEN, name);
	if (got <= 0)
		return 0;
	path->len += got;
	path->parts++;
	return 1;
}

/* The memory controller's own hierarchy is on cgroup v1 and hybrid hosts not the default one. */
static __always_inline int fill_memcg(struct oom_victim_record *out, struct task_struct *task)
{
	__u32 id = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *css = NULL;
	struct kernfs_node *node, *parent;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return OOM_FLAG_NO_MEMCG;
	bpf_core_read(&css, sizeof(css), &set->subsys[id]);
	node = BPF_CORE_READ(css, cgroup, kn);
	if (!node)
		return OOM_FLAG_NO_MEMCG;
	out->memcg_id = BPF_CORE_READ(node, id);

	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		parent = parent_of(node);
		if (!parent ||
		    !append(out, &out->memcg, OOM_TEXT_LEN / 2, BPF_CORE_READ(node, name)))
			break;
		node = parent;
	}
	return parent_of(node) ? OOM_FLAG_MEMCG_CUT : 0;
}

/* As d_path() would have it, from inside the victim's mount namespace: up to the root of each
 * mount, then on from where that is mounted. */
static __always_inline int fill_exe(struct oom_victim_record *out, struct mm_struct *mm)
{
	struct file *file = BPF_CORE_READ(mm, exe_file);
	struct vfsmount *mount = BPF_CORE_READ(file, f_path.mnt);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct dentry *parent;
	struct mount *around, *outer;
	int cut = 1;

	if (!file)
		return OOM_FLAG_NO_EXE;
	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (dentry == BPF_CORE_READ(mount, mnt_root)) {
			around = (void *)mount - bpf_core_field_offset(struct mount, mnt);
			outer = BPF_CORE_READ(around, mnt_parent);
			if (outer == around) {
				cut = 0;
				break;
			}
			dentry = BPF_CORE_READ(around, mnt_mountpoint);
			mount = (void *)outer + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		if (!append(out, &out->exe, OOM_TEXT_LEN, BPF_CORE_READ(dentry, d_name.name)))
			break;
		/* A file that is in no folder, such as memfd_create()'s. */
		if (parent == dentry) {
			cut = 0;
			break;
		}
		dentry = parent;
	}
	return cut ? OOM_FLAG_EXE_CUT : 0;
}

/* The tracepoint's argument is the victim, or on older kernels only a number: its thread's pid. */
static __always_inline int passes_task(void)
{
	return bpf_core_type_exists(btf_trace_mark_victim___task);
}

/* Of the numbers, those of the trigger's own process alone can be turned into a task here. */
static __always_inline struct task_struct *victim_of(__u64 argument)
{
	struct task_struct *current;

	if (passes_task())
		return (struct task_struct *)argument;
	current = (struct task_struct *)bpf_get_current_task();
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

static __always_inline int fill_victim(struct oom_victim_record *out, struct task_struct *task,
				       __u32 tgid)
{
	struct mm_struct *mm = NULL;
	int flags = 0;

	__builtin_memset(&out->victim, 0, sizeof(out->victim));
	__builtin_memset(&out->memory, 0, sizeof(out->memory));
	out->memcg_id = 0;
	__builtin_memset(&out->memcg, 0, sizeof(out->memcg));
	__builtin_memset(&out->exe, 0, sizeof(out->exe));
	if (!task) {
		out->victim.tgid = tgid;
		return OOM_FLAG_NO_TASK | OOM_FLAG_NO_MM | OOM_FLAG_NO_EXE | OOM_FLAG_NO_MEMCG;
	}
	fill_task(&out->victim, task);
	flags |= fill_memcg(out, task);
	out->exe.offset = out->memcg.len;
	mm = BPF_CORE_READ(task, mm);
	if (mm) {
		fill_memory(&out->memory, mm);
		flags |= fill_exe(out, mm);
	} else {
		flags |= OOM_FLAG_NO_MM | OOM_FLAG_NO_EXE;
	}
	return flags;
}

/* Where in the kernel the decision fell. Works where kprobes and fentry don't. */
static __always_inline void fill_stack(__u64 *stack, void *context)
{
	__builtin_memset(stack, 0, OOM_STACK_LEN * sizeof(*stack));
	bpf_get_stack(context, stack, OOM_STACK_LEN * sizeof(*stack), 0);
}

static __always_inline int on_mark_victim(__u64 *args)
{
	__u64 argument = args[0];
	struct task_struct *task = victim_of(argument);
	__u64 start = task ? BPF_CORE_READ(task, group_leader, start_boottime) : 0;
	__u32 tgid = tgid_of(task, argument);
	struct oom_victim_record *record;
	struct oom_counters *count;
	__u64 *known, sequence;
	__u32 zero = 0, size;

	/* The mark can come once a thread: tell each process once. */
	known = bpf_map_lookup_elem(&oom_victims, &tgid);
	if (known && *known == start)
		return 0;
	bpf_map_update_elem(&oom_victims, &tgid, &start, BPF_ANY);

	count = counters();
	if (!count)
		return 0;
	sequence = ++count->sequence;
	record = bpf_map_lookup_elem(&oom_scratch, &zero);
	if (!record)
		return 0;
	fill_header(&record->header, OOM_KIND_VICTIM, 0, sequence);
	record->header.flags = fill_victim(record, task, tgid);
	fill_task(&record->trigger, (struct task_struct *)bpf_get_current_task());
	fill_stack(record->stack, args);
	size = offsetof(struct oom_victim_record, text) + record->memcg.len + record->exe.len;
	if (size > sizeof(*record)) {
		count->lost_victims++;
		return 0;
	}
	record->header.size = size;
	if (bpf_ringbuf_output(&oom_ring, record, size, 0) != 0)
		count->lost_victims++;
	return 0;
}

/* A program a way of attaching: the loader takes the first that this kernel allows. */
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

/* do_exit() calls this for every thread of the host, after exit_mm() on older kernels, before it on
 * those that pass group_dead too. For all but the victims it is one look into a small table. */
SEC("raw_tp/sched_process_exit")
int process_exit(__u64 *args)
{
	struct task_struct *task = (struct task_struct *)args[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct oom_exit_record *record;
	struct oom_counters *count;
	__u64 *known, start, sequence;

	known = bpf_map_lookup_elem(&oom_victims, &tgid);
	if (!known || BPF_CORE_READ(task, signal, live.counter) != 0)
		return 0;
	start = *known;
	/* Threads that end side by side can all see that none is left: one deletes. */
	if (bpf_map_delete_elem(&oom_victims, &tgid) != 0)
		return 0;

	count = counters();
	if (!count)
		return 0;
	sequence = ++count->sequence;
	record = bpf_ringbuf_reserve(&oom_ring, sizeof(*record), 0);
	if (!record) {
		count->lost_exits++;
		return 0;
	}
	fill_header(&record->header, OOM_KIND_EXIT, sizeof(*record), sequence);
	record->start_boottime_ns = start;
	record->tgid = tgid;
	record->exit_code = BPF_CORE_READ(task, exit_code);
	bpf_ringbuf_submit(record, 0);
	return 0;
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

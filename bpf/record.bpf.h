/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * What a record is filled with: tasks, memory, paths and stacks, read out of the kernel's own
 * structures. Where their members are comes from what is included before this: core_compat.bpf.h or
 * bcc/compat.h.
 */
#ifndef OTEL_OOM_RECORD_BPF_H
#define OTEL_OOM_RECORD_BPF_H

#include "events.h"

#define MAX_DEPTH 32	  /* of a path; CRI in a container in a user session: about 12 */
#define COMPONENT_LEN 256 /* NAME_MAX and its NUL */
#define COMMAND_LEN 512

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

static __always_inline void fill_memory(struct oom_memory *out, struct mm_struct *mm)
{
	out->total_vm = BPF_CORE_READ(mm, total_vm) * page_size;
	out->anon = bytes_of(RSS_PAGES(mm, MM_ANONPAGES));
	out->file = bytes_of(RSS_PAGES(mm, MM_FILEPAGES));
	out->shmem = bytes_of(RSS_PAGES(mm, MM_SHMEMPAGES));
	out->swap = bytes_of(RSS_PAGES(mm, MM_SWAPENTS));
	out->page_tables = BPF_CORE_READ(mm, pgtables_bytes.counter);
}

static __always_inline struct kernfs_node *node_of(struct mem_cgroup *memcg)
{
	return BPF_CORE_READ(memcg, css.cgroup, kn);
}

/* Each part of the text has a share of it. */
#define MEMCG_END (OOM_TEXT_LEN / 4)
#define EXE_END (OOM_TEXT_LEN / 2 - COMMAND_LEN)
#define TRIGGER_MEMCG_END (OOM_TEXT_LEN * 3 / 4)
#define LIMIT_MEMCG_END OOM_TEXT_LEN

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

/* The path of a cgroup behind what the record's text has. Returns 0 when the components nearest the
 * root did not fit. */
static __always_inline int fill_path(struct oom_victim_record *out, struct oom_memcg *where,
				     struct kernfs_node *node, __u32 limit)
{
	struct kernfs_node *parent;

	where->id = BPF_CORE_READ(node, id);
	where->path.offset = out->used;
	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		parent = parent_of(node);
		if (!parent || !append(out, &where->path, limit, BPF_CORE_READ(node, name)))
			break;
		node = parent;
	}
	out->used += where->path.len;
	return !parent_of(node);
}

/* Of a cgroup that is the victim's own more often than not: that path is in the text already. */
static __always_inline int fill_other_path(struct oom_victim_record *out, struct oom_memcg *where,
					   struct kernfs_node *node, __u32 limit)
{
	if (BPF_CORE_READ(node, id) != out->memcg.id)
		return fill_path(out, where, node, limit);
	*where = out->memcg;
	return !(out->header.flags & OOM_FLAG_MEMCG_CUT);
}

/* A task's cgroup in the memory controller's own hierarchy, which on cgroup v1 and hybrid hosts is
 * not the default one. */
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

/* Read here, for whoever runs containers may remove the cgroup as soon as the victim is gone. */
static __always_inline void fill_limits(struct oom_limits *out, struct mem_cgroup *memcg)
{
	out->limit_pages = BPF_CORE_READ(memcg, memory.max);
	out->usage_pages = BPF_CORE_READ(memcg, memory.usage.counter);
	out->swap_limit_pages = BPF_CORE_READ(memcg, swap.max);
	out->swap_usage_pages = BPF_CORE_READ(memcg, swap.usage.counter);
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
		if (!append(out, &out->exe, EXE_END, BPF_CORE_READ(dentry, d_name.name)))
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

/* The words that the victim was started with. Only the trigger's own memory can be read here. */
static __always_inline int fill_command(struct oom_victim_record *out, struct task_struct *task,
					struct mm_struct *mm)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	unsigned long begin, end;
	__u32 start = out->used;
	__u64 len;

	out->command.offset = start;
	if (!want_command || BPF_CORE_READ(current, tgid) != BPF_CORE_READ(task, tgid))
		return OOM_FLAG_NO_COMMAND;
	begin = BPF_CORE_READ(mm, arg_start);
	end = BPF_CORE_READ(mm, arg_end);
	len = end - begin;
	if (end <= begin || start > OOM_TEXT_LEN - COMMAND_LEN)
		return OOM_FLAG_NO_COMMAND;
	if (len > COMMAND_LEN)
		len = COMMAND_LEN;
	if (bpf_probe_read_user(&out->text[start], len, (void *)begin) != 0)
		return OOM_FLAG_NO_COMMAND;
	out->command.len = len;
	out->used += len;
	return 0;
}

static __always_inline int fill_victim(struct oom_victim_record *out, struct task_struct *task,
				       __u32 tgid)
{
	struct mem_cgroup *memcg;
	struct mm_struct *mm;
	int flags = 0;

	if (!task) {
		out->victim.tgid = tgid;
		return OOM_FLAG_NO_TASK | OOM_FLAG_NO_MM | OOM_FLAG_NO_EXE | OOM_FLAG_NO_MEMCG |
		       OOM_FLAG_NO_COMMAND;
	}
	fill_task(&out->victim, task);
	memcg = memcg_of(task);
	if (!memcg) {
		flags |= OOM_FLAG_NO_MEMCG;
	} else {
		fill_limits(&out->limits, memcg);
		if (!fill_path(out, &out->memcg, node_of(memcg), MEMCG_END))
			flags |= OOM_FLAG_MEMCG_CUT;
	}

	mm = BPF_CORE_READ(task, mm);
	if (!mm)
		return flags | OOM_FLAG_NO_MM | OOM_FLAG_NO_EXE | OOM_FLAG_NO_COMMAND;
	fill_memory(&out->memory, mm);
	out->exe.offset = out->used;
	flags |= fill_exe(out, mm);
	out->used += out->exe.len;
	return flags | fill_command(out, task, mm);
}

static __always_inline int fill_trigger(struct oom_victim_record *out)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct mem_cgroup *memcg = memcg_of(current);

	fill_task(&out->trigger, current);
	if (!memcg)
		return OOM_FLAG_NO_TRIGGER_MEMCG;
	if (!fill_other_path(out, &out->trigger_memcg, node_of(memcg), TRIGGER_MEMCG_END))
		return OOM_FLAG_TRIGGER_MEMCG_CUT;
	return 0;
}

/* Where in the kernel the decision fell, and where in the trigger's program. Works where kprobes
 * and fentry don't. */
static __always_inline void fill_stacks(struct oom_victim_record *out, void *context)
{
	bpf_get_stack(context, out->stack, sizeof(out->stack), 0);
	bpf_get_stack(context, out->user_stack, sizeof(out->user_stack),
		      BPF_F_USER_STACK | BPF_F_USER_BUILD_ID);
}

#endif /* OTEL_OOM_RECORD_BPF_H */

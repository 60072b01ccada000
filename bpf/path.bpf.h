/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * Writes the paths of cgroups and of the victim's executable into a record's text.
 */
#ifndef OTEL_OOM_PATH_BPF_H
#define OTEL_OOM_PATH_BPF_H

#include "maps.bpf.h"

#define MAX_DEPTH 32	  /* of a path; CRI in a container in a user session: about 12 */
#define COMPONENT_LEN 256 /* NAME_MAX and NUL */
#define COMMAND_LEN 512

/* Where the share of each path in the text ends. */
#define MEMCG_END (OOM_TEXT_LEN / 4)
#define EXE_END (OOM_TEXT_LEN / 2 - COMMAND_LEN)
#define TRIGGER_MEMCG_END (OOM_TEXT_LEN * 3 / 4)
#define LIMIT_MEMCG_END OOM_TEXT_LEN

static __always_inline struct kernfs_node *node_of(struct mem_cgroup *memcg)
{
	return BPF_CORE_READ(memcg, css.cgroup, kn);
}

/* Append a component to the path at the end of the text. Returns 0 if it does not fit below
 * `text_end`. The length is kept in the record, not in a register: a value from memory is any
 * number to the verifier, which then need not follow every combination of lengths through the
 * loops. */
static __always_inline int path_append(struct oom_victim_record *out, struct oom_path *path,
				       __u32 text_end, const void *name)
{
	__u32 end = out->text_len;
	long len;

	if (end > text_end - COMPONENT_LEN)
		return 0;
	len = bpf_probe_read_kernel_str(&out->text[end], COMPONENT_LEN, name);
	if (len <= 0)
		return 0;
	path->len += len;
	path->components++;
	out->text_len += len;
	return 1;
}

/* Sets `cut_flag` if the components nearest the root do not fit. */
static __always_inline void fill_memcg(struct oom_victim_record *out, struct oom_memcg *memcg,
				       struct kernfs_node *node, __u32 text_end, __u32 cut_flag)
{
	struct kernfs_node *parent;

	memcg->id = BPF_CORE_READ(node, id);
	memcg->path.offset = out->text_len;
	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		parent = parent_of(node);
		if (!parent || !path_append(out, &memcg->path, text_end, BPF_CORE_READ(node, name)))
			break;
		node = parent;
	}
	if (parent_of(node))
		out->header.flags |= cut_flag;
}

/* As fill_memcg(), but if it is the victim's own cgroup, which is usual, share that path. */
static __always_inline void fill_other_memcg(struct oom_victim_record *out, struct oom_memcg *memcg,
					     struct kernfs_node *node, __u32 text_end,
					     __u32 cut_flag)
{
	if (BPF_CORE_READ(node, id) != out->memcg.id) {
		fill_memcg(out, memcg, node, text_end, cut_flag);
		return;
	}
	*memcg = out->memcg;
	if (out->header.flags & OOM_FLAG_MEMCG_CUT)
		out->header.flags |= cut_flag;
}

/* The path that d_path() returns inside the victim's mount namespace: up to the root of each mount,
 * then on from its mount point. */
static __always_inline void fill_exe(struct oom_victim_record *out, struct mm_struct *mm)
{
	struct file *file = BPF_CORE_READ(mm, exe_file);
	struct vfsmount *vfsmount = BPF_CORE_READ(file, f_path.mnt);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct dentry *parent;
	struct mount *mount, *parent_mount;

	if (!file)
		return;
	out->header.flags &= ~OOM_FLAG_NO_EXE;
	out->exe.offset = out->text_len;
	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (dentry == BPF_CORE_READ(vfsmount, mnt_root)) {
			mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
			parent_mount = BPF_CORE_READ(mount, mnt_parent);
			if (parent_mount == mount)
				return;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			vfsmount = (void *)parent_mount + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		if (!path_append(out, &out->exe, EXE_END, BPF_CORE_READ(dentry, d_name.name)))
			break;
		/* A file that is in no folder, such as memfd_create()'s. */
		if (parent == dentry)
			return;
		dentry = parent;
	}
	out->header.flags |= OOM_FLAG_EXE_CUT;
}

#endif /* OTEL_OOM_PATH_BPF_H */

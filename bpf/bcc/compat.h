/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * The running kernel's headers under the names of libbpf's CO-RE macros. A preprocessor cannot test
 * everything in headers: child_main.py searches their text, and defines OOM_MARK_PASSES_TASK,
 * OOM_EXIT_PRECEDES_MM and OOM_MNT_NS_HAS_COUNT.
 */
#ifndef OTEL_OOM_BCC_COMPAT_H
#define OTEL_OOM_BCC_COMPAT_H

/* The name of this member of struct kernfs_node since 6.15 (kernel commit 633488947ef6). */
#define __parent parent

#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/mount.h>
#include <linux/nsproxy.h>
#include <linux/pid_namespace.h>
#include <linux/ns_common.h>
#include <linux/kernfs.h>
#include <linux/cgroup-defs.h>
#include <linux/memcontrol.h>
#include <linux/oom.h>

#undef __parent
#undef current

/* The kernel's definition is a pointer; raw tracepoints pass numbers. */
#undef SEND_SIG_PRIV
#define SEND_SIG_PRIV 1

#include "events.h"

/* The kernel does not export fs/mount.h. These have only the members up to those that are read. */
struct mount {
	struct hlist_node mnt_hash;
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct mnt_namespace {
#if OOM_MNT_NS_HAS_COUNT /* before 5.11: kernel commit 1a7b8969e664 */
	atomic_t count;
#endif
	struct ns_common ns;
};

#ifdef CONFIG_MEMCG
#define OOM_HAS_MEMCG 1
#else
#define OOM_HAS_MEMCG 0
#define memory_cgrp_id 0
#endif

#define page_size OOM_PAGE_SIZE
#define want_command OOM_WANT_COMMAND

/* The comma operator yields a value, whose type is the member's without const. */
#define READ_1(from, a)                                                                            \
	({                                                                                         \
		typeof(((void)0, (from)->a)) value_;                                               \
		bpf_probe_read_kernel(&value_, sizeof(value_), (const void *)&(from)->a);          \
		value_;                                                                            \
	})
#define READ_2(from, a, b) READ_1(READ_1(from, a), b)
#define READ_3(from, a, b, c) READ_1(READ_2(from, a, b), c)
#define READ_NAME(_1, _2, _3, _4, name, ...) name

#define BPF_CORE_READ(...) READ_NAME(__VA_ARGS__, READ_3, READ_2, READ_1)(__VA_ARGS__)
#define BPF_CORE_READ_STR_INTO(to, from, a)                                                        \
	bpf_probe_read_kernel_str((to), sizeof(*(to)), (const void *)&(from)->a)
#define bpf_core_read(to, size, from) bpf_probe_read_kernel((to), (size), (const void *)(from))
#define bpf_core_field_offset(type, member) offsetof(type, member)
#define bpf_core_type_size(type) sizeof(type)
#define bpf_core_enum_value(type, value) (value)
#define bpf_core_enum_value_exists(type, value) OOM_HAS_MEMCG

/* The elements of mm_struct.rss_stat are percpu_counters since 6.2 (kernel commit f1a7941243c1);
 * before, they were longs in a struct. */
#define RSS_STRIDE (sizeof(((struct mm_struct *)0)->rss_stat) / NR_MM_COUNTERS)
#define RSS_COUNT (RSS_STRIDE == sizeof(long) ? 0 : offsetof(struct percpu_counter, count))
#define RSS_PAGES(mm, member)                                                                      \
	({                                                                                         \
		__s64 pages_ = 0;                                                                  \
		bpf_probe_read_kernel(&pages_, sizeof(long),                                       \
				      (void *)&(mm)->rss_stat + RSS_STRIDE * (member) +            \
					      RSS_COUNT);                                          \
		pages_;                                                                            \
	})

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	return BPF_CORE_READ(node, parent);
}

static __always_inline int mark_passes_task(void)
{
	return OOM_MARK_PASSES_TASK;
}

static __always_inline int exit_precedes_mm(void)
{
	return OOM_EXIT_PRECEDES_MM;
}

#endif /* OTEL_OOM_BCC_COMPAT_H */

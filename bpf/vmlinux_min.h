/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * A reduced vmlinux.h: the kernel types and members that oom.bpf.c reads, and no others. CO-RE
 * finds each member by name in the running kernel's BTF, so the offsets here do not matter. A name
 * that ends in ___x is another version of a kernel type; the running kernel's BTF says which one
 * applies, never its release.
 */
#ifndef OTEL_OOM_VMLINUX_MIN_H
#define OTEL_OOM_VMLINUX_MIN_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

/* UAPI: enum bpf_map_type, a flag of bpf_map_update_elem() and a flag of a map. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27
};
enum { BPF_ANY = 0 };
enum { BPF_F_MMAPABLE = 1 << 10 };

/* UAPI: what bpf_ringbuf_query() returns; positions only grow. */
enum { BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE, BPF_RB_CONS_POS, BPF_RB_PROD_POS };

/* UAPI: flags of bpf_get_stack(). */
enum { BPF_F_USER_STACK = 1 << 8, BPF_F_USER_BUILD_ID = 1 << 11 };

/* UAPI: the registers that a kprobe passes. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31], sp, pc, pstate;
};
struct pt_regs;
#endif
#define __VMLINUX_H__ /* for bpf_tracing.h: the registers have the kernel's own names */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	long counter;
} atomic_long_t;

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
};

struct ns_common {
	__u32 inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	__u32 level;
	struct upid numbers[1];
};

struct percpu_counter {
	__s64 count;
};

struct qstr {
	const unsigned char *name;
};

struct super_block {
	unsigned long s_magic;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct super_block *d_sb;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
};

/* Indexes into mm_struct.rss_stat (include/linux/mm_types_task.h). */
enum { MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES, NR_MM_COUNTERS };

struct mm_struct {
	/* A struct maple_tree, from 6.1 on. It has no name here, as in struct mm_struct___atomic.
	 */
	struct {
		void *ma_root;
	} mm_mt;
	struct vm_area_struct *mmap; /* before 6.1 (kernel commit 763ecb035029) */
	int map_count;
	unsigned long start_brk;
	unsigned long brk;
	unsigned long start_stack;
	unsigned long total_vm;
	struct file *exe_file;
	atomic_long_t pgtables_bytes;
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct percpu_counter rss_stat[NR_MM_COUNTERS];
};

/* Before 6.2 (kernel commit f1a7941243c1): plain atomic counters, in a struct mm_rss_stat. The
 * struct has no name here, because libbpf searches all modules for a type that vmlinux lacks, which
 * needs CAP_SYS_ADMIN. */
struct mm_struct___atomic {
	struct {
		atomic_long_t count[NR_MM_COUNTERS];
	} rss_stat;
};

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	unsigned long vm_flags;
	struct mm_struct *vm_mm;
	struct file *vm_file;
	const void *vm_ops;
	void *anon_name;		/* a struct anon_vma_name, from 5.17 on */
	struct vm_area_struct *vm_next; /* before 6.1 (kernel commit 763ecb035029) */
};

struct signal_struct {
	atomic_t live;
	short oom_score_adj;
};

struct kernfs_node {
	const char *name;
	struct kernfs_node *__parent;
	__u64 id;
};

/* Before 6.15 (kernel commit 633488947ef6): the member has no underscores. */
struct kernfs_node___parent {
	struct kernfs_node *parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

/* The values depend on the kernel's configuration: always use bpf_core_enum_value(). */
enum cgroup_subsys_id { memory_cgrp_id = 4, CGROUP_SUBSYS_COUNT = 16 };

struct css_set {
	struct cgroup_subsys_state *subsys[CGROUP_SUBSYS_COUNT];
	struct cgroup *dfl_cgrp; /* in the hierarchy of cgroup v2 */
};

struct page_counter {
	atomic_long_t usage;
	unsigned long max;
};

/* On cgroup v1, swap counts memory and swap together: it is in a union with memsw. */
struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	struct page_counter swap;
};

enum oom_constraint { CONSTRAINT_NONE };

struct oom_control {
	struct mem_cgroup *memcg;
	__u32 gfp_mask; /* gfp_t, of the same size */
	int order;
	unsigned long totalpages;
	struct task_struct *chosen;
	long chosen_points;
	enum oom_constraint constraint;
};

struct task_struct {
	int pid;
	int tgid;
	int exit_code;
	__u64 start_boottime;
	char comm[16];
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct pid *thread_pid;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct mm_struct *mm;
	const struct cred *real_cred;
	struct css_set *cgroups;
};

#pragma clang attribute pop

/* SEND_SIG_PRIV: a signal sent by the kernel itself (include/linux/sched/signal.h). */
enum { ENOENT = 2, SIGKILL = 9, SIGTERM = 15, SEND_SIG_PRIV = 1 };

/* The result that the tracepoint signal_generate passes (include/trace/events/signal.h). */
enum { TRACE_SIGNAL_DELIVERED };

/* To test whether the kernel has the helper (5.13, kernel commit 7b15523a989b). */
enum bpf_func_id { BPF_FUNC_snprintf = 165 };

/* The prototype of mark_victim since 6.9 and in backports; it was (void *, int) before. */
typedef void (*btf_trace_mark_victim___task)(void *, struct task_struct *, __u32);

/* Since 6.16 sched_process_exit comes before exit_mm() and passes group_dead. */
typedef void (*btf_trace_sched_process_exit___group_dead)(void *, struct task_struct *, _Bool);

#endif /* OTEL_OOM_VMLINUX_MIN_H */

/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * Lists a victim's mappings by kind and name, from the kernel's own tree of them. It takes no lock
 * and no reference to the memory: at the mark the victim's task_lock() is held, so
 * bpf_iter_task_vma finds it busy, and a reference would delay what the victim frees. Memory of the
 * tree stays readable as long as the program runs (RCU). What changes meanwhile fails a comparison,
 * and is left out.
 */
#ifndef OTEL_OOM_MAPPINGS_BPF_H
#define OTEL_OOM_MAPPINGS_BPF_H

#include "handlers.bpf.h"

#define MAX_STEPS 2048 /* 1,000 mappings or more; at most half a millisecond */

/* Nodes of the maple tree, which 6.1 and newer have (include/linux/maple_tree.h, on 64 bits). */
#define NODE_MASK (~255ULL)
#define NODE_TYPE(entry) ((entry) >> 3 & 15)
#define IS_NODE(entry) ((entry)&4) /* MAPLE_ENODE_NULL */
#define NODE_LEAF 1		   /* maple_leaf_64 */
#define NODE_RANGE 2		   /* maple_range_64 */
#define RANGE_SLOTS 16
#define ARANGE_SLOTS 10

/* include/linux/mm.h */
#define VM_ACCESS 7	 /* VM_READ | VM_WRITE | VM_EXEC */
#define VM_DEVICE 0x4400 /* VM_IO | VM_PFNMAP */
#define VM_HUGETLB 0x400000

#define TMPFS_MAGIC 0x01021994

#define ANON_NAME_OFFSET 4 /* of struct anon_vma_name's name, behind its kref */

#define MAX_RANK (1LL << 62) /* more than any size times OOM_MAPPINGS */
#define HASH_FACTOR 0x9e3779b97f4a7c15ULL

/* With BCC there are no such maps. */
static __always_inline struct mapping_walk *mapping_walk(void);
static __always_inline void mappings_update(__u32 index, struct oom_mappings *mappings);

/* Add the mapping to the entry of its kind and name. If there is none, and no free one, it replaces
 * the smallest, unless it is smaller itself. */
static __always_inline void add_mapping(struct mapping_walk *walk)
{
	struct oom_mapping *mapping = &walk->mapping, *entry;
	struct oom_mappings *result = &walk->result;
	__u64 *words = (__u64 *)mapping->name;
	__u64 key = mapping->kind;
	__s64 smallest = MAX_RANK, difference, sign;
	__u32 index;

	for (__u32 i = 0; i < OOM_MAPPING_NAME_LEN / 8; i++) {
		key = (key ^ words[i]) * HASH_FACTOR;
		key ^= key >> 29;
	}
	mapping->key = key | 1;
	result->mapping_count++;
	for (__u32 i = 0; i < OOM_MAPPINGS; i++) {
		entry = &result->entries[i];
		if (entry->key == mapping->key) {
			entry->bytes += mapping->bytes;
			entry->count++;
			return;
		}
		if (!entry->key) {
			*entry = *mapping;
			return;
		}
	}
	for (__u32 i = 0; i < OOM_MAPPINGS; i++) {
		/* The lesser of both, without a branch: the verifier would follow each. */
		difference = result->entries[i].bytes * OOM_MAPPINGS + i - smallest;
		sign = difference >> 63;
		barrier_var(sign); /* a compiler would make it a branch again */
		smallest += difference & sign;
	}
	index = smallest & (OOM_MAPPINGS - 1);
	entry = &result->entries[index];
	if (mapping->bytes <= entry->bytes) {
		result->other_bytes += mapping->bytes;
		result->other_count++;
		return;
	}
	result->other_bytes += entry->bytes;
	result->other_count += entry->count;
	*entry = *mapping;
}

/* The files of devtmpfs, which has the same magic number, are devices. */
static __always_inline void name_file(struct oom_mapping *mapping, struct file *file,
				      unsigned long flags)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);

	mapping->kind = OOM_MAPPING_FILE;
	if (!(flags & VM_DEVICE) && BPF_CORE_READ(dentry, d_sb, s_magic) == TMPFS_MAGIC)
		mapping->kind = OOM_MAPPING_SHMEM;
	bpf_probe_read_kernel_str(mapping->name, sizeof(mapping->name),
				  BPF_CORE_READ(dentry, d_name.name));
}

/* The name that prctl(PR_SET_VMA_ANON_NAME) gave. Without a file, the member has no other use. */
static __always_inline void name_anonymous(struct oom_mapping *mapping, struct vm_area_struct *vma)
{
	void *name = NULL;

	mapping->kind = OOM_MAPPING_ANONYMOUS;
	if (bpf_core_field_exists(vma->anon_name))
		name = BPF_CORE_READ(vma, anon_name);
	if (name)
		bpf_probe_read_kernel_str(mapping->name, sizeof(mapping->name),
					  name + ANON_NAME_OFFSET);
}

/* As get_vma_name() of fs/proc/task_mmu.c decides. */
static __always_inline void visit_mapping(struct mapping_walk *walk, struct vm_area_struct *vma,
					  __u64 start, __u64 end)
{
	struct oom_mapping *mapping = &walk->mapping;
	unsigned long flags = BPF_CORE_READ(vma, vm_flags);
	struct file *file = BPF_CORE_READ(vma, vm_file);

	if ((__u64)BPF_CORE_READ(vma, vm_mm) != walk->mm || BPF_CORE_READ(vma, vm_start) != start)
		return;
	__builtin_memset(mapping, 0, sizeof(*mapping));
	mapping->bytes = end - start;
	mapping->count = 1;
	if (!(flags & VM_ACCESS))
		mapping->kind = OOM_MAPPING_RESERVED;
	else if (flags & VM_HUGETLB)
		mapping->kind = OOM_MAPPING_HUGETLB;
	else if (file)
		name_file(mapping, file, flags);
	else if (BPF_CORE_READ(vma, vm_ops))
		mapping->kind = OOM_MAPPING_SPECIAL;
	else if (start < walk->heap_end && end > walk->heap_start)
		mapping->kind = OOM_MAPPING_HEAP;
	else if (start <= walk->stack && end >= walk->stack)
		mapping->kind = OOM_MAPPING_STACK;
	else
		name_anonymous(mapping, vma);
	add_mapping(walk);
}

/* The last address of a slot. The last slot in use has no pivot, or that of its node. */
static __always_inline __u64 slot_end(struct mapping_walk *walk, __u32 slot, __u32 slots)
{
	__u64 pivot = 0;

	if (slot < slots - 1 && slot < RANGE_SLOTS - 1)
		pivot = walk->node[1 + slot];
	return pivot && pivot < walk->high ? pivot : walk->high;
}

/* Enter the child that has the address. Each step of a walk starts at one node. */
static __always_inline int enter_node(struct mapping_walk *walk)
{
	__u64 entry = walk->entry, end;
	__u32 type = NODE_TYPE(entry), slots = type > NODE_RANGE ? ARANGE_SLOTS : RANGE_SLOTS, slot;

	if (!IS_NODE(entry) || ++walk->depth > MAX_DEPTH ||
	    bpf_probe_read_kernel(walk->node, sizeof(walk->node), (void *)(entry & NODE_MASK)) != 0)
		return 1;
	for (slot = 0; slot < RANGE_SLOTS; slot++) {
		end = slot_end(walk, slot, slots);
		if (end >= walk->address || end == walk->high)
			break;
	}
	walk->slot = slot;
	if (type <= NODE_LEAF) {
		walk->in_leaf = 1;
		return 0;
	}
	walk->entry = walk->node[(slot + slots) & (NODE_WORDS - 1)];
	walk->high = end;
	return 0;
}

static __always_inline int visit_slot(struct mapping_walk *walk)
{
	__u32 slot = walk->slot;
	__u64 end, vma, start = walk->address;

	if (slot >= RANGE_SLOTS)
		return 1;
	end = slot_end(walk, slot, RANGE_SLOTS);
	vma = walk->node[RANGE_SLOTS + slot];
	if (vma && !(vma & 3))
		visit_mapping(walk, (struct vm_area_struct *)vma, start, end + 1);
	walk->address = end + 1;
	walk->slot = slot + 1;
	if (end < walk->high)
		return 0;
	walk->in_leaf = walk->depth = 0;
	walk->entry = walk->root;
	walk->high = ~0ULL;
	return end + 1 == 0;
}

/* Before 6.1: a list. */
static __always_inline int visit_next(struct mapping_walk *walk)
{
	struct vm_area_struct *vma = (void *)walk->entry;

	if (!vma)
		return 1;
	visit_mapping(walk, vma, BPF_CORE_READ(vma, vm_start), BPF_CORE_READ(vma, vm_end));
	walk->entry = (__u64)BPF_CORE_READ(vma, vm_next);
	return 0;
}

/* Returns 1 at the end of the walk. */
static long walk_step(__u64 step __attribute__((unused)), void *context __attribute__((unused)))
{
	struct mapping_walk *walk = mapping_walk();
	struct mm_struct *mm = NULL;

	if (!walk)
		return 1;
	walk->result.steps++;
	if (!bpf_core_field_exists(mm->mm_mt))
		return visit_next(walk);
	return walk->in_leaf ? visit_slot(walk) : enter_node(walk);
}

/* Runs before on_mark_victim(), which counts the mark. */
static __always_inline int on_mark_mappings(__u64 argument)
{
	struct decision_state *state = current_decision();
	struct mapping_walk *walk = mapping_walk();
	struct task_struct *task;
	struct mm_struct *mm;
	__u64 *count = mark_count();
	struct victim *marked;
	__u32 tgid;

	if (!state || !walk || !count)
		return 0;
	task = victim_task(argument, state);
	mm = BPF_CORE_READ(task, mm);
	if (!task || !mm)
		return 0;
	tgid = BPF_CORE_READ(task, tgid);
	marked = victim_lookup(tgid);
	__builtin_memset(walk, 0, offsetof(struct mapping_walk, node));
	__builtin_memset(&walk->result, 0, offsetof(struct oom_mappings, entries));
	for (int i = 0; i < OOM_MAPPINGS; i++)
		walk->result.entries[i].key = 0;
	walk->result.start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	if (marked && marked->start_boottime_ns == walk->result.start_boottime_ns)
		return 0;
	walk->result.tgid = tgid;
	walk->result.map_count = BPF_CORE_READ(mm, map_count);
	walk->mm = (__u64)mm;
	walk->heap_start = BPF_CORE_READ(mm, start_brk);
	walk->heap_end = BPF_CORE_READ(mm, brk);
	walk->stack = BPF_CORE_READ(mm, start_stack);
	walk->high = ~0ULL;
	if (bpf_core_field_exists(mm->mm_mt))
		walk->root = (__u64)BPF_CORE_READ(mm, mm_mt.ma_root);
	else
		walk->root = (__u64)BPF_CORE_READ(mm, mmap);
	walk->entry = walk->root;
	bpf_loop(MAX_STEPS, walk_step, NULL, 0);
	mappings_update(*count % OOM_MAPPING_SLOTS, &walk->result);
	return 0;
}

#endif /* OTEL_OOM_MAPPINGS_BPF_H */

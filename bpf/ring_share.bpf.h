/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * Shares the ring buffer among holders, so that the kills of one never push out those of another.
 *
 * A holder's unread records may occupy a multiple of what is free. With SHARE_KILL one holder
 * alone gets three quarters of the ring, and N greedy ones leave 1/(3N + 1) of it to the next. This
 * is the dynamic threshold of shared-memory switches (Choudhury and Hahne, 1998).
 */
#ifndef OTEL_OOM_RING_SHARE_BPF_H
#define OTEL_OOM_RING_SHARE_BPF_H

#include "path.bpf.h"

#define SHARE_COMPLETE 1 /* kills with their stacks */
#define SHARE_KILL 3	 /* kills without stacks */
#define SHARE_STEP 4	 /* exits and reaper steps: those of the admitted kills still fit */

#define RING_HEADER 8 /* of each record: BPF_RINGBUF_HDR_SZ */

/* The cgroup to which a holder's kills count: one that its processes cannot make more of. That is a
 * unit, a user, or a container below `docker`, `machine.slice` and the like, on the second level; a
 * pod, below that of its class if there is one; a container of LXC, on the first level. NULL for a
 * path of more than MAX_DEPTH components: all of those are one holder. */
static __always_inline struct kernfs_node *holder_node(struct kernfs_node *node)
{
	struct kernfs_node *first = NULL, *second = NULL, *third = NULL, *parent;
	char root[16] __attribute__((aligned(8))) = {}, class[16] = {};

	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		parent = parent_of(node);
		if (!parent)
			break;
		third = second;
		second = first;
		first = node;
		node = parent;
	}
	if (parent_of(node))
		return NULL;
	if (!second)
		return first ? first : node;
	bpf_probe_read_kernel_str(root, sizeof(root), BPF_CORE_READ(first, name));
	if (__builtin_memcmp(root, "lxc.payl", 8) == 0)
		return first;
	if (!third || __builtin_memcmp(root, "kubepods", 8) != 0)
		return second;
	/* kubepods-burstable.slice, kubepods-besteffort.slice; burstable, besteffort */
	bpf_probe_read_kernel_str(class, sizeof(class), BPF_CORE_READ(second, name));
	return class[0] == 'b' || class[9] == 'b' ? third : second;
}

/* The ring buffer, as a holder finds it; bytes. */
struct ring_share {
	__u64 holder;
	__u64 size;
	__u64 used;   /* by all unread records */
	__u64 unread; /* of it, by the holder's: up to an eighth of the ring too many */
};

static __always_inline __u32 segment_at(struct ring_share *share, __u64 position)
{
	return position / (share->size / (RING_SEGMENTS / 2));
}

static __always_inline void read_ring_share(struct ring_share *share, __u64 holder)
{
	struct ring_usage *usage = NULL;
	__u64 unread = 0;
	__u32 oldest;

	share->holder = holder;
	share->size = ring_query(BPF_RB_RING_SIZE);
	share->used = ring_query(BPF_RB_AVAIL_DATA);
	if (share->used)
		usage = ring_usage_lookup(holder);
	if (usage) {
		oldest = segment_at(share, ring_query(BPF_RB_CONS_POS));
		for (int i = 0; i < RING_SEGMENTS; i++)
			if ((__s32)(usage->segments[i].number - oldest) >= 0)
				unread += usage->segments[i].bytes;
	}
	share->unread = unread < share->used ? unread : share->used;
}

/* True if with `size` more bytes the holder's records occupy at most `factor` times what is free.
 */
static __always_inline int ring_admits(struct ring_share *share, __u32 size, __u32 factor)
{
	__u64 used = share->used + RING_HEADER + size;

	return used <= share->size && share->unread + size <= (share->size - used) * factor;
}

/* Returns a negative number if the ring buffer is full. */
static __always_inline long ring_submit(void *context, void *record, __u32 size,
					struct ring_share *share)
{
	struct ring_usage *usage, unused = {};
	struct ring_segment *segment;
	__u32 number;

	if (ring_output(context, record, size) != 0)
		return -1;
	usage = ring_usage_lookup(share->holder);
	if (!usage) {
		ring_usage_update(share->holder, &unused);
		usage = ring_usage_lookup(share->holder);
	}
	if (!usage)
		return 0;
	number = segment_at(share, ring_query(BPF_RB_PROD_POS));
	segment = &usage->segments[number % RING_SEGMENTS];
	if (segment->number != number) {
		segment->bytes = 0;
		segment->number = number;
	}
	__sync_fetch_and_add(&segment->bytes, RING_HEADER + size);
	return 0;
}

/* Count a kill that is not in the ring as its holder's, in memory that is free for that. */
static __always_inline void count_lost_kill(struct oom_lost_kills *scratch, __u64 holder,
					    struct kernfs_node *node)
{
	struct oom_lost_kills *lost = lost_kills_lookup(holder);

	if (lost) {
		__sync_fetch_and_add(&lost->count, 1);
		return;
	}
	__builtin_memset(scratch, 0, sizeof(*scratch));
	scratch->count = 1;
	bpf_probe_read_kernel_str(scratch->name, sizeof(scratch->name), BPF_CORE_READ(node, name));
	lost_kills_update(holder, scratch);
}

#endif /* OTEL_OOM_RING_SHARE_BPF_H */

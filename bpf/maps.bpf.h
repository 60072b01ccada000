/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * The state that the programs keep between calls. oom.bpf.c and bcc/oom.bcc.c each declare the maps
 * in their loader's syntax. The accessors below are defined in map_access.bpf.h and bcc/oom.bcc.c.
 */
#ifndef OTEL_OOM_MAPS_BPF_H
#define OTEL_OOM_MAPS_BPF_H

#include "events.h"

#define MAX_VICTIMS 8192 /* dying at the same time */
#define MAX_RATELIMITS 256
/* Of an LRU map each CPU can reserve 128 free entries (LOCAL_FREE_TARGET of bpf_lru_list.c). */
#define MAX_HOLDERS 2048
#define MAX_LOST_KILLS 512
#define NODE_WORDS 32	 /* of the maple tree: parent, then pivots, then slots */
#define RING_SEGMENTS 16 /* eighths: more than the unread records reach into */

struct victim {
	__u64 start_boottime_ns; /* 0: unknown, the mark passed only a pid */
	__u64 marked_ns;
	__u64 mm;     /* its signal struct keeps it until the last thread is gone */
	__u64 holder; /* see holder_node() */
	__u32 tid;
	__u32 reserved;
};

/* The decision in progress. There is at most one, because the kernel decides under oom_lock. */
struct decision_state {
	__u32 tid; /* of the deciding thread; 0: no decision in progress */
	__u32 marks;
	__u64 control;	   /* out_of_memory()'s struct oom_control */
	__u64 limit_node;  /* kernfs node of the cgroup whose limit was hit; 0: the host */
	__u64 chosen;	   /* the task that oom_kill_process() is to kill */
	__u64 signal_task; /* the task that the kernel last sent SIGKILL to */
	__u32 signal_tid;  /* of the thread that sent it */
	__u32 reserved;
	struct oom_decision decision;
	struct oom_task chosen_task; /* read in time: the task can be gone when its kill ends */
};

/* Rate limit of OOM_KIND_NO_VICTIM records, per cgroup (0: host): an allocation that must not fail
 * retries many times a second. */
struct ratelimit {
	__u64 reported_ns;
	__u32 repeats;
	__u32 reserved;
};

/* How many bytes of each eighth of the ring buffer hold records of one holder. Eighths are numbered
 * by the ring's positions, which only grow: the reader's position says which of them are read. */
struct ring_usage {
	struct ring_segment {
		__u32 number;
		__u32 bytes;
	} segments[RING_SEGMENTS];
};

/* A walk over the mappings of a victim. It is in memory, so that the verifier takes each value for
 * any number. */
struct mapping_walk {
	__u64 mm;
	__u64 root;
	__u64 entry;   /* the next node to enter, or in older kernels the next mapping */
	__u64 address; /* the first that is not visited yet */
	__u64 high;    /* the last address of entry's node */
	__u64 heap_start;
	__u64 heap_end;
	__u64 stack;
	__u32 slot; /* of the leaf in node */
	__u32 in_leaf;
	__u32 depth;
	__u32 reserved;
	__u64 node[NODE_WORDS];
	struct oom_mapping mapping;
	struct oom_mappings result;
};

/* Of this CPU. */
static __always_inline struct oom_counters *counters(void);

/* The buffer in which a record is built: it is too large for the stack. One per CPU is enough,
 * because the kernel kills under oom_lock and a program does not change its CPU. */
static __always_inline struct oom_victim_record *scratch_record(void);

/* Returns a negative number if the ring buffer is full. */
static __always_inline long ring_output(void *context, void *record, __u32 size);
static __always_inline __u64 ring_query(__u64 flag); /* of BPF_RB_* */

/* By the id of the holder's cgroup; 0: unknown. */
static __always_inline struct ring_usage *ring_usage_lookup(__u64 holder);
static __always_inline void ring_usage_update(__u64 holder, struct ring_usage *usage);
static __always_inline struct oom_lost_kills *lost_kills_lookup(__u64 holder);
static __always_inline void lost_kills_update(__u64 holder, struct oom_lost_kills *lost);

static __always_inline struct decision_state *current_decision(void);

/* The marked victims that have not exited, by tgid. */
static __always_inline struct victim *victim_lookup(__u32 tgid);
static __always_inline void victim_update(__u32 tgid, struct victim *victim);
static __always_inline long victim_delete(__u32 tgid); /* -ENOENT: there was none */

/* The victims' tgids, by the thread id that mark_victim and the reaper's tracepoints pass. */
static __always_inline __u32 *thread_tgid_lookup(__u32 tid);
static __always_inline void thread_tgid_update(__u32 tid, __u32 tgid);

/* The last OOM_MAX_MARKS victims, even if their records were lost: mark number N, counted from 0,
 * is at index N modulo OOM_MAX_MARKS. */
static __always_inline struct oom_mark *mark_lookup(__u32 index);
static __always_inline __u64 *mark_count(void);

static __always_inline struct ratelimit *ratelimit_lookup(__u64 memcg_id);
static __always_inline void ratelimit_update(__u64 memcg_id, struct ratelimit *ratelimit);

#endif /* OTEL_OOM_MAPS_BPF_H */

/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * What the programs remember from one call to the next. The maps that hold it are declared in each
 * loader's own words, in oom.bpf.c and oom.bcc.c; they are reached by the functions below.
 */
#ifndef OTEL_OOM_MAPS_BPF_H
#define OTEL_OOM_MAPS_BPF_H

#include "events.h"

#define MAX_VICTIMS 8192 /* victims that are dying at one time */
#define MAX_SILENCES 256

struct victim {
	__u64 start_boottime_ns; /* 0: not known, the mark was a number alone */
	__u64 marked_ns;
	__u64 mm; /* pinned by its signal struct until the last of the process is gone */
	__u32 tid;
	__u32 reserved;
};

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

/* When it was last told of a cgroup (0: of the host) that there is none to kill in it. An
 * allocation that may not fail finds that anew many times a second. */
struct silence {
	__u64 told_ns;
	__u32 repeats;
	__u32 reserved;
};

/* Of this CPU. */
static __always_inline struct oom_counters *counters(void);

/* Where a record is put together. Kills are serialized by the kernel's oom_lock, and a program
 * stays on its CPU. */
static __always_inline struct oom_victim_record *scratch(void);

/* Put a record where the reader takes it from; not 0 when there is no room. */
static __always_inline long output(void *context, void *record, __u32 size);

static __always_inline struct pending *pending(void);

/* Each marked victim that has not exited, by its tgid. */
static __always_inline struct victim *victim_at(__u32 tgid);
static __always_inline void keep_victim(__u32 tgid, struct victim *victim);
static __always_inline long forget_victim(__u32 tgid); /* -ENOENT: it was not there */

/* Their tgids, by the thread that the mark and the reaper know them by. */
static __always_inline __u32 *tgid_at(__u32 tid);
static __always_inline void keep_tgid(__u32 tid, __u32 tgid);

/* The last victims, whatever became of their records, by their number modulo OOM_MARKS, and how
 * many there have been. */
static __always_inline struct oom_mark *mark_at(__u32 index);
static __always_inline __u64 *mark_count(void);

static __always_inline struct silence *silence_at(__u64 memcg_id);
static __always_inline void keep_silence(__u64 memcg_id, struct silence *silence);

#endif /* OTEL_OOM_MAPS_BPF_H */

/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * The wire format: what the kernel side writes into the ring buffer and
 * otel_oom/capture/wire.py reads. Native byte order, no padding the compiler
 * may choose. Both sides assert the layout; a change of it is a new
 * OOM_WIRE_VERSION.
 */
#ifndef OTEL_OOM_EVENTS_H
#define OTEL_OOM_EVENTS_H

#define OOM_WIRE_VERSION 3

#define OOM_COMM_LEN 16	  /* TASK_COMM_LEN of the kernel */
#define OOM_TEXT_LEN 4096 /* all paths of a record together, and its words */
#define OOM_STACK_LEN 48  /* frames; those farther from the decision are left out */
#define OOM_SYMBOL_LEN 96 /* a frame's name and offset, with its NUL */
#define OOM_MESSAGE_LEN 48
#define OOM_USER_STACK_LEN 16
#define OOM_BUILD_ID_LEN 20
#define OOM_MARKS 8192 /* that are remembered; a power of two */

enum oom_kind {
	OOM_KIND_VICTIM = 1, /* struct oom_victim_record */
	OOM_KIND_EXIT = 2,   /* struct oom_exit_record */
	/* struct oom_victim_record of a process that was chosen and not killed, for it had let go
	 * of its memory: without memory, memcg and exe. */
	OOM_KIND_SKIPPED = 3,
	/* struct oom_victim_record without a victim: there was none to choose. */
	OOM_KIND_NO_VICTIM = 4,
	OOM_KIND_REAPER = 5, /* struct oom_reaper_record */
};

enum oom_flag {
	OOM_FLAG_NO_TASK = 1 << 0,     /* the kernel told only the victim's pid, as victim.tgid */
	OOM_FLAG_NO_MM = 1 << 1,       /* the victim had no mm: its memory is not known */
	OOM_FLAG_NO_EXE = 1 << 2,      /* no executable: exe is not known */
	OOM_FLAG_NO_MEMCG = 1 << 3,    /* no memory controller: memcg and limits are not known */
	OOM_FLAG_MEMCG_CUT = 1 << 4,   /* memcg lacks the components nearest the root */
	OOM_FLAG_EXE_CUT = 1 << 5,     /* so does exe */
	OOM_FLAG_NO_DECISION = 1 << 6, /* decision and limit_memcg are not known */
	OOM_FLAG_NO_LIMIT_MEMCG = 1 << 7,     /* the host's memory: no cgroup's limit was hit */
	OOM_FLAG_LIMIT_MEMCG_CUT = 1 << 8,    /* as OOM_FLAG_MEMCG_CUT */
	OOM_FLAG_NO_TRIGGER_MEMCG = 1 << 9,   /* the trigger's is not known */
	OOM_FLAG_TRIGGER_MEMCG_CUT = 1 << 10, /* as OOM_FLAG_MEMCG_CUT */
	OOM_FLAG_NO_COMMAND = 1 << 11, /* the victim's words were not asked for, or not there */
};

struct oom_header {
	__u16 version;
	__u16 kind;
	__u32 size; /* of the whole record, bytes */
	__u32 cpu;
	__u32 flags;
	/* Of this CPU, from 1, taken before the reserve: a gap is a loss. An exit that preempts
	 * another record on its CPU can share its number. */
	__u64 sequence;
	__u64 boottime_ns; /* CLOCK_BOOTTIME */
};

/* Ids are those of the initial namespaces, but for ns_tgid. Of the namespaces, the inode, as in
 * /proc/PID/ns; zero when the task has already left them. */
struct oom_task {
	__u64 start_boottime_ns; /* of the process, CLOCK_BOOTTIME */
	__u32 tgid;
	__u32 tid;
	__u32 ppid;
	__u32 ns_tgid; /* the process's pid in its own PID namespace */
	__u32 uid;
	__u32 gid;
	__u32 pid_ns;
	__u32 mnt_ns;
	__s32 score_adj;
	__u32 reserved;
	char comm[OOM_COMM_LEN];
};

/* Bytes, as of the moment of the mark, before anything is freed. */
struct oom_memory {
	__u64 total_vm;
	__u64 anon;
	__u64 file;
	__u64 shmem;
	__u64 swap;
	__u64 page_tables;
};

/* Where in a record's text a path is. Components go from the leaf to the root, each ended by NUL:
 * the order in which the kernel's trees can be walked. The root itself is none. */
struct oom_path {
	__u16 offset; /* into text */
	__u16 len;    /* bytes used */
	__u32 parts;  /* components in them */
};

/* A memory cgroup: the inode of its folder, and its path in the memory controller's hierarchy. */
struct oom_memcg {
	__u64 id;
	struct oom_path path;
};

/* The bounds of a memory cgroup and what it uses of them, by its page counters. A bound that is
 * none is PAGE_COUNTER_MAX. */
struct oom_limits {
	__u64 limit_pages;
	__u64 usage_pages;
	__u64 swap_limit_pages; /* of swap on v2, of memory and swap together on v1 */
	__u64 swap_usage_pages;
};

/* What the kernel weighed: its struct oom_control, and the bounds of the cgroup whose limit was
 * hit, as of oom_kill_process(). */
struct oom_decision {
	__u64 boottime_ns; /* CLOCK_BOOTTIME; the same for all that one decision kills */
	__u64 total_pages; /* what could be had at most: a capacity */
	__s64 points;
	struct oom_limits limits;
	__u32 gfp_mask;
	__s32 order;	  /* -1 for sysrq */
	__s32 constraint; /* enum oom_constraint */
	__u32 repeats;	  /* OOM_KIND_NO_VICTIM: how often it was left untold since the last */
	char message[OOM_MESSAGE_LEN];
};

/* A return address of the trigger in user space, as the kernel's struct bpf_stack_build_id. */
struct oom_user_frame {
	__s32 status; /* 1: valid */
	__u8 build_id[OOM_BUILD_ID_LEN];
	__u64 offset; /* into the file */
};

/* Sent as long as it is used: header.size ends it within text. */
struct oom_victim_record {
	struct oom_header header;
	struct oom_task victim;
	struct oom_task trigger; /* the task in whose context the kernel chose the victim */
	struct oom_memory memory;
	struct oom_decision decision;
	struct oom_memcg memcg;
	struct oom_memcg trigger_memcg;
	struct oom_memcg limit_memcg; /* the cgroup whose limit was hit */
	struct oom_limits limits;     /* of memcg, as of the mark */
	struct oom_path exe;	      /* in the victim's own mount namespace */
	struct oom_path command;      /* the first words of its command line, each ended by NUL */
	__u32 used;		      /* bytes of text */
	__u32 reserved;
	struct oom_user_frame user_stack[OOM_USER_STACK_LEN]; /* from the inside outwards */
	/* The trigger's kernel stack, from the decision outwards: return addresses, ended by
	 * zero if there are fewer. They are for resolve_symbol() and never leave the host. */
	__u64 stack[OOM_STACK_LEN];
	char text[OOM_TEXT_LEN];
};

/* The last thread of a marked victim is in do_exit(). */
struct oom_exit_record {
	struct oom_header header;
	__u64 start_boottime_ns;
	__u32 tgid;
	__u32 exit_code; /* as in wait(2): signal in the low seven bits */
};

/* A step of the oom_reaper, which takes the memory of a victim that does not die. */
enum oom_reaper_stage {
	OOM_REAPER_WAKE = 1,   /* the victim is on its list */
	OOM_REAPER_START = 2,  /* of an attempt */
	OOM_REAPER_FINISH = 3, /* of an attempt, which may not have got all */
	OOM_REAPER_SKIP = 4,   /* there is nothing left to take */
};

struct oom_reaper_record {
	struct oom_header header;
	__u64 start_boottime_ns; /* 0: not known, for the mark was a number alone */
	__u32 tgid;
	__u32 stage;
	struct oom_memory memory; /* what the victim holds now; not with OOM_FLAG_NO_MM */
};

/* What names a kill: the header's boottime_ns of its record, and its process. Kept when the record
 * is long gone, for the kernel's log, which knows a thread's pid and a clock of its own. */
struct oom_mark {
	__u64 boottime_ns;
	__u64 monotonic_ns;	 /* CLOCK_MONOTONIC: stops in suspend, as the log's clock does */
	__u64 start_boottime_ns; /* 0: not known, for the mark was a number alone */
	__u32 tgid;
	__u32 tid; /* 0: nothing was marked yet */
	char comm[OOM_COMM_LEN];
};

/* Per CPU; summed by the reader. */
struct oom_counters {
	__u64 sequence;
	__u64 lost_victims; /* the ring buffer was full */
	__u64 lost_exits;   /* and reaper records */
};

_Static_assert(sizeof(struct oom_header) == 32, "oom_header");
_Static_assert(sizeof(struct oom_task) == 64, "oom_task");
_Static_assert(sizeof(struct oom_memory) == 48, "oom_memory");
_Static_assert(sizeof(struct oom_path) == 8, "oom_path");
_Static_assert(sizeof(struct oom_memcg) == 16, "oom_memcg");
_Static_assert(sizeof(struct oom_limits) == 32, "oom_limits");
_Static_assert(sizeof(struct oom_mark) == 48, "oom_mark");
_Static_assert(sizeof(struct oom_decision) == 72 + OOM_MESSAGE_LEN, "oom_decision");
_Static_assert(sizeof(struct oom_user_frame) == 32, "oom_user_frame");
_Static_assert(sizeof(struct oom_victim_record) ==
		       432 + 32 * OOM_USER_STACK_LEN + 8 * OOM_STACK_LEN + OOM_TEXT_LEN,
	       "oom_victim_record");
_Static_assert(sizeof(struct oom_reaper_record) == 96, "oom_reaper_record");
_Static_assert(sizeof(struct oom_exit_record) == 48, "oom_exit_record");
_Static_assert(sizeof(struct oom_counters) == 24, "oom_counters");

#endif /* OTEL_OOM_EVENTS_H */

/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * The wire format: the records that the kernel side writes into the ring buffer
 * and otel_oom/capture/bpf/records.py reads. Native byte order, no implicit padding.
 * Both sides assert the layout; a change of the layout needs a new
 * OOM_WIRE_VERSION.
 */
#ifndef OTEL_OOM_EVENTS_H
#define OTEL_OOM_EVENTS_H

#define OOM_WIRE_VERSION 4

#define OOM_COMM_LEN 16	  /* TASK_COMM_LEN of the kernel */
#define OOM_TEXT_LEN 4096 /* all paths of a record and its command line */
#define OOM_STACK_LEN 48  /* frames; the outermost ones are dropped */
#define OOM_SYMBOL_LEN 96 /* name and offset of a frame, with NUL */
#define OOM_MESSAGE_LEN 48
#define OOM_USER_STACK_LEN 16
#define OOM_BUILD_ID_LEN 20
#define OOM_MAX_MARKS 8192 /* a power of two */
#define OOM_HOLDER_LEN 128
#define OOM_UNIT_LEN 24 /* the longest name of a daemon's unit, with NUL */
#define OOM_SIGNAL_RING_BYTES (1 << 18)
#define OOM_CHUNK_LEN 4096 /* of user memory: each is in one page */
#define OOM_ARGUMENT_CHUNKS 3
#define OOM_ENVIRON_CHUNKS 7
#define OOM_START_TEXTS 16
#define OOM_MAPPINGS 32
#define OOM_MAPPING_NAME_LEN 64
#define OOM_MAPPING_SLOTS 128

enum oom_kind {
	OOM_KIND_VICTIM = 1, /* struct oom_victim_record */
	OOM_KIND_EXIT = 2,   /* struct oom_exit_record */
	/* struct oom_victim_record of a process that was chosen but not killed, because it had
	 * already released its memory. Without memory, memcg and exe. */
	OOM_KIND_SKIPPED = 3,
	/* struct oom_victim_record without a victim: no process could be chosen. */
	OOM_KIND_NO_VICTIM = 4,
	OOM_KIND_REAPER = 5, /* struct oom_reaper_record */
	/* struct oom_victim_record of a process that a userspace OOM daemon, the trigger, sends a
	 * fatal signal to. In a ring buffer of its own. */
	OOM_KIND_SIGNAL = 6,
};

enum oom_flag {
	OOM_FLAG_NO_TASK = 1 << 0,     /* only the victim's pid is known, as victim.tgid */
	OOM_FLAG_NO_MM = 1 << 1,       /* the victim had no mm: memory is unknown */
	OOM_FLAG_NO_EXE = 1 << 2,      /* no executable: exe is unknown */
	OOM_FLAG_NO_MEMCG = 1 << 3,    /* no memory controller: memcg and memcg_usage are unknown */
	OOM_FLAG_MEMCG_CUT = 1 << 4,   /* memcg lacks the components nearest the root */
	OOM_FLAG_EXE_CUT = 1 << 5,     /* exe lacks the components nearest the root */
	OOM_FLAG_NO_DECISION = 1 << 6, /* decision and limit_memcg are unknown */
	OOM_FLAG_NO_LIMIT_MEMCG = 1 << 7, /* no cgroup's limit was hit: the host is out of memory */
	OOM_FLAG_LIMIT_MEMCG_CUT = 1 << 8,    /* as OOM_FLAG_MEMCG_CUT */
	OOM_FLAG_NO_TRIGGER_MEMCG = 1 << 9,   /* trigger_memcg is unknown */
	OOM_FLAG_TRIGGER_MEMCG_CUT = 1 << 10, /* as OOM_FLAG_MEMCG_CUT */
	OOM_FLAG_NO_COMMAND = 1 << 11,	      /* command was not wanted or could not be read */
	OOM_FLAG_NO_STACKS = 1 << 12,	      /* no user_stack and stack: text is in their place */
};

struct oom_header {
	__u16 version;
	__u16 kind;
	__u32 size; /* of the whole record, bytes */
	__u32 cpu;
	__u32 flags;
	/* Per CPU, from 1. Counted before the record enters the ring buffer: a gap is a lost
	 * record. An exit that preempts another record on its CPU can have the same number. */
	__u64 sequence;
	__u64 boottime_ns; /* CLOCK_BOOTTIME */
};

/* Ids are those of the initial namespaces, except ns_tgid. pid_ns and mnt_ns are inodes, as in
 * /proc/PID/ns; 0 if the task has already left its namespaces. */
struct oom_task {
	__u64 start_boottime_ns; /* of the process, CLOCK_BOOTTIME */
	__u32 tgid;
	__u32 tid;
	__u32 ppid;
	__u32 ns_tgid; /* in the process's own PID namespace */
	__u32 uid;
	__u32 gid;
	__u32 pid_ns;
	__u32 mnt_ns;
	__s32 score_adj;
	__u32 start_text; /* of the victim: number of its struct oom_start_text; 0: none */
	char comm[OOM_COMM_LEN];
};

/* A range of user memory, and which of its chunks could be read: pages that are not present can't.
 * The first chunk begins at the page of `begin`. */
struct oom_user_text {
	__u64 begin;
	__u64 end;
	__u32 read_chunks; /* bit N: chunk N */
	__u32 reserved;
};

/* The arguments and the environment of a victim, as they are in its memory at the mark. They hold
 * secrets: so they are in no record, and the reader wipes them. Number N is at index N - 1. */
struct oom_start_text {
	__u64 boottime_ns; /* header.boottime_ns of the kill's record */
	struct oom_user_text arguments;
	struct oom_user_text environ;
	char argument_chunks[OOM_ARGUMENT_CHUNKS * OOM_CHUNK_LEN];
	char environ_chunks[OOM_ENVIRON_CHUNKS * OOM_CHUNK_LEN];
};

enum oom_mapping_kind {
	OOM_MAPPING_ANONYMOUS = 1, /* the name is that of prctl(PR_SET_VMA_ANON_NAME) */
	OOM_MAPPING_HEAP = 2,	   /* of brk(2) */
	OOM_MAPPING_STACK = 3,	   /* of the first thread */
	OOM_MAPPING_SHMEM = 4,	   /* a file of tmpfs, memfd_create(2), SysV or MAP_SHARED */
	OOM_MAPPING_FILE = 5,
	OOM_MAPPING_HUGETLB = 6,
	OOM_MAPPING_RESERVED = 7, /* no access is allowed */
	OOM_MAPPING_SPECIAL = 8,  /* the kernel's own, such as vdso */
};

/* All mappings of one kind and name. */
struct oom_mapping {
	__u64 key; /* of kind and name; 0: an unused entry */
	__u64 bytes;
	__u32 count;
	__u32 kind;			 /* enum oom_mapping_kind */
	char name[OOM_MAPPING_NAME_LEN]; /* of a file: without its folder; longer ones are cut */
};

/* The mappings of a victim at mark number N, counted from 0, are at index N % OOM_MAPPING_SLOTS. */
struct oom_mappings {
	__u64 start_boottime_ns; /* as in struct oom_task */
	__u32 tgid;
	__u32 map_count;     /* by the kernel's own count */
	__u32 mapping_count; /* of all entries and of the others */
	__u32 other_count;
	__u64 other_bytes; /* of mappings that found no entry */
	__u32 steps;
	__u32 reserved;
	struct oom_mapping entries[OOM_MAPPINGS]; /* in no order */
};

/* Bytes, read at the mark, before anything is freed. */
struct oom_memory {
	__u64 total_vm;
	__u64 anon;
	__u64 file;
	__u64 shmem;
	__u64 swap;
	__u64 page_tables;
};

/* A path in a record's text. Components go from the leaf to the root, each with its NUL: the order
 * in which the kernel's trees can be walked. The root itself has no component. */
struct oom_path {
	__u16 offset; /* into text */
	__u16 len;    /* bytes */
	__u32 components;
};

/* A memory cgroup and its path in the memory controller's hierarchy. */
struct oom_memcg {
	__u64 id; /* inode of its folder */
	struct oom_path path;
};

/* Limits and usage of a memory cgroup, from its page counters. PAGE_COUNTER_MAX: no limit. */
struct oom_memcg_usage {
	__u64 limit_pages;
	__u64 usage_pages;
	__u64 swap_limit_pages; /* of swap on v2, of memory and swap together on v1 */
	__u64 swap_usage_pages;
};

/* The input of the kernel's decision: its struct oom_control, read at oom_kill_process() or,
 * without a victim, at the end of out_of_memory(). */
struct oom_decision {
	__u64 boottime_ns; /* CLOCK_BOOTTIME; the same for all victims of one decision */
	__u64 totalpages;
	__s64 chosen_points;
	struct oom_memcg_usage limit_memcg_usage;
	__u32 gfp_mask;
	__s32 order;	  /* -1 for sysrq */
	__s32 constraint; /* enum oom_constraint */
	__u32 repeats;	  /* OOM_KIND_NO_VICTIM: records suppressed since the last one */
	char message[OOM_MESSAGE_LEN];
};

/* A return address of the trigger in user space: the kernel's struct bpf_stack_build_id. */
struct oom_user_frame {
	__s32 status; /* BPF_STACK_BUILD_ID_VALID (1), or the rest is not set */
	__u8 build_id[OOM_BUILD_ID_LEN];
	__u64 offset; /* into the file */
};

/* Of variable size: header.size ends within text. */
struct oom_victim_record {
	struct oom_header header;
	struct oom_task victim;
	struct oom_task trigger; /* the task in whose context the kernel chose the victim */
	struct oom_memory memory;
	struct oom_decision decision;
	struct oom_memcg memcg;
	struct oom_memcg trigger_memcg;
	struct oom_memcg limit_memcg;	    /* the cgroup whose limit was hit */
	struct oom_memcg_usage memcg_usage; /* read at the mark */
	struct oom_path exe;		    /* in the victim's own mount namespace */
	struct oom_path command; /* the start of the command line, each argument with its NUL */
	__u32 text_len;
	__u32 signal;					      /* OOM_KIND_SIGNAL: its number */
	struct oom_user_frame user_stack[OOM_USER_STACK_LEN]; /* innermost frame first */
	/* Return addresses of the trigger's kernel stack, innermost first, then zeros. Only for
	 * resolve_symbol(): addresses never leave the host. */
	__u64 stack[OOM_STACK_LEN];
	char text[OOM_TEXT_LEN];
};

/* Written when the last thread of a marked victim is in do_exit(). */
struct oom_exit_record {
	struct oom_header header;
	__u64 start_boottime_ns;
	__u32 tgid;
	__u32 exit_code; /* as in wait(2): the signal is in the low seven bits */
};

/* A step of the oom_reaper, which frees the memory of a victim that does not exit by itself. */
enum oom_reaper_stage {
	OOM_REAPER_WAKE = 1,   /* the victim is queued */
	OOM_REAPER_START = 2,  /* an attempt starts */
	OOM_REAPER_FINISH = 3, /* an attempt ends; it may have freed only a part */
	OOM_REAPER_SKIP = 4,   /* nothing is left to free */
};

struct oom_reaper_record {
	struct oom_header header;
	__u64 start_boottime_ns; /* 0: unknown, the mark passed only a pid */
	__u32 tgid;
	__u32 stage;
	struct oom_memory memory; /* as of this step; not with OOM_FLAG_NO_MM */
};

/* The identity of a kill. It outlives the kill's record, so that a kill read from the kernel log,
 * which has only the thread's pid and another clock, gets the same identity. */
struct oom_mark {
	__u64 boottime_ns;	 /* header.boottime_ns of the kill's record */
	__u64 monotonic_ns;	 /* CLOCK_MONOTONIC: stops in suspend, as the log's clock does */
	__u64 start_boottime_ns; /* 0: unknown, the mark passed only a pid */
	__u32 tgid;
	__u32 tid; /* 0: an unused slot */
	char comm[OOM_COMM_LEN];
};

/* Per CPU. Records are lost when the ring buffer is full, or the holder's share of it. */
struct oom_counters {
	__u64 sequence;
	__u64 lost_victims;
	__u64 lost_exits; /* including reaper records */
};

/* The lost_victims of one holder that are not reported yet: a reader removes what it reports. */
struct oom_lost_kills {
	__u64 count;
	char name[OOM_HOLDER_LEN]; /* of the holder's cgroup */
};

/* Per CPU: the last request for a kill by sysrq, and the unit that the requester is of. */
struct oom_sysrq_request {
	__u64 boottime_ns;	 /* 0: none */
	char unit[OOM_UNIT_LEN]; /* of a userspace OOM daemon; empty: of any other process */
};

_Static_assert(sizeof(struct oom_header) == 32, "oom_header");
_Static_assert(sizeof(struct oom_task) == 64, "oom_task");
_Static_assert(sizeof(struct oom_user_text) == 24, "oom_user_text");
_Static_assert(sizeof(struct oom_start_text) ==
		       56 + (OOM_ARGUMENT_CHUNKS + OOM_ENVIRON_CHUNKS) * OOM_CHUNK_LEN,
	       "oom_start_text");
_Static_assert(sizeof(struct oom_mapping) == 24 + OOM_MAPPING_NAME_LEN, "oom_mapping");
_Static_assert(sizeof(struct oom_mappings) == 40 + OOM_MAPPINGS * sizeof(struct oom_mapping),
	       "oom_mappings");
_Static_assert(sizeof(struct oom_memory) == 48, "oom_memory");
_Static_assert(sizeof(struct oom_path) == 8, "oom_path");
_Static_assert(sizeof(struct oom_memcg) == 16, "oom_memcg");
_Static_assert(sizeof(struct oom_memcg_usage) == 32, "oom_memcg_usage");
_Static_assert(sizeof(struct oom_mark) == 48, "oom_mark");
_Static_assert(sizeof(struct oom_decision) == 72 + OOM_MESSAGE_LEN, "oom_decision");
_Static_assert(sizeof(struct oom_user_frame) == 32, "oom_user_frame");
_Static_assert(sizeof(struct oom_victim_record) ==
		       432 + 32 * OOM_USER_STACK_LEN + 8 * OOM_STACK_LEN + OOM_TEXT_LEN,
	       "oom_victim_record");
_Static_assert(sizeof(struct oom_reaper_record) == 96, "oom_reaper_record");
_Static_assert(sizeof(struct oom_exit_record) == 48, "oom_exit_record");
_Static_assert(sizeof(struct oom_counters) == 24, "oom_counters");
_Static_assert(sizeof(struct oom_sysrq_request) == 8 + OOM_UNIT_LEN, "oom_sysrq_request");
_Static_assert(sizeof(struct oom_lost_kills) == 8 + OOM_HOLDER_LEN, "oom_lost_kills");

#endif /* OTEL_OOM_EVENTS_H */

/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * The accessors that maps.bpf.h declares, for the maps of oom.bpf.c.
 */
#ifndef OTEL_OOM_MAP_ACCESS_BPF_H
#define OTEL_OOM_MAP_ACCESS_BPF_H

static __always_inline void *single_value(void *map)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(map, &zero);
}

static __always_inline struct oom_counters *counters(void)
{
	return single_value(&oom_counters);
}

static __always_inline struct oom_victim_record *scratch_record(void)
{
	return single_value(&oom_scratch);
}

static __always_inline long ring_output(void *context __attribute__((unused)), void *record,
					__u32 size)
{
	return bpf_ringbuf_output(&oom_ring, record, size, 0);
}

static __always_inline __u64 ring_query(__u64 flag)
{
	return bpf_ringbuf_query(&oom_ring, flag);
}

static __always_inline struct ring_usage *ring_usage_lookup(__u64 holder)
{
	return bpf_map_lookup_elem(&oom_ring_usage, &holder);
}

static __always_inline void ring_usage_update(__u64 holder, struct ring_usage *usage)
{
	bpf_map_update_elem(&oom_ring_usage, &holder, usage, BPF_ANY);
}

static __always_inline struct oom_lost_kills *lost_kills_lookup(__u64 holder)
{
	return bpf_map_lookup_elem(&oom_lost_kills, &holder);
}

static __always_inline void lost_kills_update(__u64 holder, struct oom_lost_kills *lost)
{
	bpf_map_update_elem(&oom_lost_kills, &holder, lost, BPF_ANY);
}

static __always_inline struct decision_state *current_decision(void)
{
	return single_value(&oom_decision);
}

static __always_inline struct victim *victim_lookup(__u32 tgid)
{
	return bpf_map_lookup_elem(&oom_victims, &tgid);
}

static __always_inline void victim_update(__u32 tgid, struct victim *victim)
{
	bpf_map_update_elem(&oom_victims, &tgid, victim, BPF_ANY);
}

static __always_inline long victim_delete(__u32 tgid)
{
	return bpf_map_delete_elem(&oom_victims, &tgid);
}

static __always_inline __u32 *thread_tgid_lookup(__u32 tid)
{
	return bpf_map_lookup_elem(&oom_threads, &tid);
}

static __always_inline void thread_tgid_update(__u32 tid, __u32 tgid)
{
	bpf_map_update_elem(&oom_threads, &tid, &tgid, BPF_ANY);
}

static __always_inline struct oom_mark *mark_lookup(__u32 index)
{
	return bpf_map_lookup_elem(&oom_marks, &index);
}

static __always_inline __u64 *mark_count(void)
{
	return single_value(&oom_mark_count);
}

static __always_inline struct oom_start_text *start_text_lookup(__u32 index)
{
	return bpf_map_lookup_elem(&oom_start_texts, &index);
}

static __always_inline struct mapping_walk *mapping_walk(void)
{
	return single_value(&oom_mapping_walk);
}

static __always_inline void mappings_update(__u32 index, struct oom_mappings *mappings)
{
	bpf_map_update_elem(&oom_mappings, &index, mappings, BPF_ANY);
}

static __always_inline struct ratelimit *ratelimit_lookup(__u64 memcg_id)
{
	return bpf_map_lookup_elem(&oom_ratelimits, &memcg_id);
}

static __always_inline void ratelimit_update(__u64 memcg_id, struct ratelimit *ratelimit)
{
	bpf_map_update_elem(&oom_ratelimits, &memcg_id, ratelimit, BPF_ANY);
}

static __always_inline struct oom_sysrq_request *sysrq_request(void)
{
	return single_value(&oom_sysrq);
}

static __always_inline long signal_output(void *record, __u32 size)
{
	return bpf_ringbuf_output(&oom_signal_ring, record, size, 0);
}

#endif /* OTEL_OOM_MAP_ACCESS_BPF_H */

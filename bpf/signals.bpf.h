/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Copyright The otel-oom authors */

/*
 * The signals by which userspace OOM daemons kill, and their requests that the kernel kill. Their
 * messages name no process of a cgroup, and of a process only what its text allows. Attached only
 * on a host that has such a daemon: hosts send many other signals.
 */
#ifndef OTEL_OOM_SIGNALS_BPF_H
#define OTEL_OOM_SIGNALS_BPF_H

#include "record.bpf.h"

#define UNIT_WORDS (OOM_UNIT_LEN / 8)

#define IS_UNIT(name, unit) is_unit(name, unit, sizeof(unit))

/* In words, which the compiler makes of the constant name: a memcmp() of this size is a call. */
static __always_inline int is_unit(const __u64 *name, const char *unit, __u32 len)
{
	for (__u32 i = 0; i < UNIT_WORDS; i++) {
		__u64 word = 0;

		for (__u32 j = 8 * i; j < 8 * i + 8 && j < len; j++)
			word |= (__u64)unit[j] << 8 * (j % 8);
		if (name[i] != word)
			return 0;
	}
	return 1;
}

/* True for the cgroup of a daemon's unit, directly below a slice of the host, whose name is then in
 * name. A user or a container can make cgroups of the same name, but only further below. */
static __always_inline int is_daemon_node(struct kernfs_node *node, __u64 *name)
{
	struct kernfs_node *slice = parent_of(node);

	if (!slice || parent_of(parent_of(slice)))
		return 0;
	for (__u32 i = 0; i < UNIT_WORDS; i++)
		name[i] = 0;
	bpf_probe_read_kernel_str(name, OOM_UNIT_LEN, BPF_CORE_READ(node, name));
	return IS_UNIT(name, "systemd-oomd.service") || IS_UNIT(name, "earlyoom.service") ||
	       IS_UNIT(name, "oomd.service") || IS_UNIT(name, "nohang.service") ||
	       IS_UNIT(name, "nohang-desktop.service");
}

static __always_inline int is_daemon(struct task_struct *task, __u64 *name)
{
	return is_daemon_node(BPF_CORE_READ(task, cgroups, dfl_cgrp, kn), name) ||
	       is_daemon_node(node_of(memcg_of(task)), name);
}

/* Called for every signal of the host: others than these two cost two comparisons. The trigger is
 * the daemon. No signal is delivered to a process that is dying already. */
static __always_inline int on_daemon_signal(int signal, struct task_struct *task, int result)
{
	struct oom_victim_record *record;
	struct oom_counters *count;
	struct task_struct *sender;
	__u64 name[UNIT_WORDS];
	__u32 size;

	if ((signal != SIGKILL && signal != SIGTERM) || result != TRACE_SIGNAL_DELIVERED)
		return 0;
	sender = (struct task_struct *)bpf_get_current_task();
	if (!is_daemon(sender, name))
		return 0;
	record = record_begin(OOM_KIND_SIGNAL);
	if (!record)
		return 0;
	record->signal = signal;
	fill_victim(record, task);
	fill_trigger(record);
	record->header.flags |= OOM_FLAG_NO_STACKS;
	record->decision.boottime_ns = 0;
	size = record->text_len;
	if (size > OOM_TEXT_LEN)
		return 0;
	bpf_probe_read_kernel(record->user_stack, size, record->text);
	size += offsetof(struct oom_victim_record, user_stack);
	record->header.size = size;
	count = counters();
	if (size <= sizeof(*record) && signal_output(record, size) != 0 && count)
		__sync_fetch_and_add(&count->lost_victims, 1);
	return 0;
}

/* A worker of the kernel kills later. The process that wrote to /proc/sysrq-trigger is only here
 * the current one. Any other request than a daemon's is noted too: the kill is of the last one. */
static __always_inline int on_sysrq(__u32 key)
{
	struct oom_sysrq_request *request;
	__u64 name[UNIT_WORDS];
	int is_of_daemon;

	if ((key & 0xff) != 'f')
		return 0;
	request = sysrq_request();
	if (!request)
		return 0;
	is_of_daemon = is_daemon((struct task_struct *)bpf_get_current_task(), name);
	__builtin_memset(request->unit, 0, sizeof(request->unit));
	if (is_of_daemon)
		__builtin_memcpy(request->unit, name, sizeof(name));
	request->boottime_ns = bpf_ktime_get_boot_ns();
	return 0;
}

#endif /* OTEL_OOM_SIGNALS_BPF_H */

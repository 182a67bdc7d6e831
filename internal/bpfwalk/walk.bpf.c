// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

/*
 * The walks of the kernel's tables of sockets, for all network namespaces.
 *
 * Each call of a program visits a part of one table under RCU and writes a record
 * for each socket. It is written for three properties:
 *
 * - No bpf_probe_read*: lockdown=confidentiality refuses programs with it. The kfunc
 *   bpf_rdonly_cast (Linux 6.2) gives typed loads of any address, and one that faults
 *   reads as zero.
 * - The verifier allows no arithmetic on typed pointers, and the end of a chain is
 *   marked in bit 0. So addresses are numbers here until something is loaded.
 * - A call ends soon. RCU is held for as long as it runs, and a kernel without
 *   preemption does nothing else meanwhile.
 *
 * The types have only the members that are read; CO-RE finds their offsets in the BTF
 * of the running kernel. Nothing is included, so that the object depends on the
 * compiler alone.
 */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define __ksym __attribute__((section(".ksyms")))
#define __always_inline inline __attribute__((always_inline))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

/* Numbers of include/uapi/linux/bpf.h. */
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_F_MMAPABLE 1024
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static void *(*bpf_get_current_task_btf)(void) = (void *)158;
static long (*bpf_loop)(__u32 n, void *callback, void *ctx, __u64 flags) = (void *)181;

extern void *bpf_rdonly_cast(void *address, __u32 type) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

/* Relocations that the loader fills in from BTF. */
#define offset_of(type, field) __builtin_preserve_field_info(((type *)0)->field, 0)
#define field_size(field) __builtin_preserve_field_info(field, 1)
#define has_field(type, field) __builtin_preserve_field_info(((type *)0)->field, 2)
#define size_of(type) __builtin_preserve_type_info(*(type *)0, 1)
#define has_type(type) __builtin_preserve_type_info(*(type *)0, 0)
#define kernel_type(type) __builtin_btf_type_id(*(type *)0, 1)

char _license[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next;
};
struct hlist_node {
	struct hlist_node *next;
};
struct hlist_nulls_node {
	struct hlist_nulls_node *next;
};
struct hlist_nulls_head {
	struct hlist_nulls_node *first;
};
typedef struct {
	int counter;
} atomic_t;
typedef struct {
	__s64 counter;
} atomic64_t;
typedef struct {
	atomic_t refs;
} refcount_t;
typedef struct {
	__u32 val;
} kuid_t;

struct inet_ehash_bucket {
	struct hlist_nulls_head chain;
};
struct inet_listen_hashbucket {
	struct hlist_nulls_head nulls_head;
};
struct inet_hashinfo {
	struct inet_ehash_bucket *ehash;
	unsigned int ehash_mask;
	unsigned int lhash2_mask;
	struct inet_listen_hashbucket *lhash2;
};
struct udp_hslot {
	int count;
};
struct udp_table {
	struct udp_hslot *hash;
	unsigned int mask;
};

struct proc_ns_operations;
struct ns_common {
	const struct proc_ns_operations *ops;
	unsigned int inum;
};
struct inet_timewait_death_row {
	struct inet_hashinfo *hashinfo;
};
struct netns_ipv4 {
	struct inet_timewait_death_row tcp_death_row;
	struct udp_table *udp_table;
};
struct net {
	struct list_head list;
	struct ns_common ns;
	__u32 hash_mix;
	struct netns_ipv4 ipv4;
	__u64 net_cookie;
};
typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u32 u6_addr32[4];
	} in6_u;
};
struct proto {
	union {
		struct udp_table *udp_table;
	} h;
};
struct sock_common {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	unsigned int skc_hash;
	__u16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_ipv6only : 1;
	int skc_bound_dev_if;
	struct proto *skc_prot;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	struct hlist_node skc_node;
	struct hlist_nulls_node skc_nulls_node;
};
struct kernfs_node {
	__u64 id;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct sock_cgroup_data {
	struct cgroup *cgroup;
};
struct numa_drop_counters { /* Linux 6.18 */
	atomic_t drops0;
	atomic_t drops1;
};
struct inode {
	unsigned long i_ino;
};
struct socket {
	struct sock *sk;
};
struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};
struct sock {
	struct sock_common __sk_common;
	atomic_t sk_drops;
	struct numa_drop_counters *sk_drop_counters;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	refcount_t sk_wmem_alloc;
	struct socket *sk_socket;
	kuid_t sk_uid;
	__u16 sk_protocol;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	unsigned long sk_ino; /* Linux 6.17 */
	struct sock_cgroup_data sk_cgrp_data;
};
struct inet_sock {
	struct sock sk;
	unsigned long inet_flags; /* Linux 6.6 */
};
struct inet_sock___before_flags {
	__u8 transparent : 1;
	__u8 bind_address_no_port : 1;
};
struct inet_connection_sock {
	__u8 icsk_pending;
	__u8 icsk_retransmits;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 write_seq;
	__u32 snd_una;
};
struct udp_sock {
	int forward_deficit;
};
struct inet_timewait_sock {
	volatile unsigned char tw_substate;
};
struct request_sock {
	__u8 num_retrans;
};

struct file {
	void *private_data;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct nsproxy {
	struct net *net_ns;
};
struct task_struct {
	struct files_struct *files;
	struct nsproxy *nsproxy;
};
/* Its first member is a plain number of 64 bits, whatever that stands for. */
struct timespec64 {
	__s64 tv_sec;
};

#pragma clang attribute pop

#define load64(address) ((__u64)((struct timespec64 *)bpf_rdonly_cast((void *)(address), kernel_type(struct timespec64)))->tv_sec)
#define at(type, address) ((type *)bpf_rdonly_cast((void *)(address), kernel_type(type)))

/* bit_of loads the bytes around a bit field and cuts it out; little-endian. */
#define bit_of(pointer, field)                                                                  \
	({                                                                                      \
		__u64 value = 0;                                                                \
		const void *bytes = (const void *)(pointer) + __builtin_preserve_field_info((pointer)->field, 0); \
		switch (field_size((pointer)->field)) {                                         \
		case 1: value = *(const __u8 *)bytes; break;                                    \
		case 2: value = *(const __u16 *)bytes; break;                                   \
		case 4: value = *(const __u32 *)bytes; break;                                   \
		case 8: value = *(const __u64 *)bytes; break;                                   \
		}                                                                               \
		value <<= __builtin_preserve_field_info((pointer)->field, 4);                   \
		value >>= __builtin_preserve_field_info((pointer)->field, 5);                   \
		(bool)value;                                                                    \
	})

/* Numbers of the kernel. */
#define AF_INET6 10
#define IPPROTO_TCP 6
#define TCP_TIME_WAIT 6
#define TCP_LISTEN 10
#define TCP_NEW_SYN_RECV 12
#define LISTENING_NULLS_BASE (1U << 29) /* include/net/inet_hashtables.h */
#define ICSK_TIME_RETRANS 1             /* include/net/inet_connection_sock.h */
#define ICSK_TIME_PROBE0 3
#define ICSK_TIME_LOSS_PROBE 5
#define ICSK_TIME_REO_TIMEOUT 6
#define INET_FLAGS_TRANSPARENT 15 /* include/net/inet_sock.h */
#define INET_FLAGS_BIND_ADDRESS_NO_PORT 18

/* ---- what the programs are asked, and what they answer ---- */

enum table {
	ESTABLISHED, /* every TCP socket but those in LISTEN */
	LISTENING,
	UDP,
};

enum flags {
	V6ONLY = 1,
	TRANSPARENT = 2,
	BIND_NO_PORT = 4,
	ZERO_WINDOW = 8,
};

/* A socket, or as far as it has them: a socket in TIME_WAIT or SYN_RECV is smaller. */
struct record {
	__u64 net; /* the cookie of its network namespace */
	__u64 cookie;
	__u64 inode;
	__u64 cgroup;
	__u8 local[16];
	__u8 remote[16];
	__u32 device;
	__u32 uid;
	__u32 drops;
	__u32 receive;
	__u32 send;
	__u16 local_port;
	__u16 remote_port; /* big-endian */
	__u8 family;
	__u8 state;
	__u8 retransmits;
	__u8 flags;
	__u32 protocol;
};

/* A network namespace, and where its tables are. */
struct namespace {
	__u64 cookie;
	__u64 tcp;
	__u64 udp;
	__u64 inode;
};

/* One call: a part of a table. */
struct call {
	/* What is asked. */
	__u64 net;    /* the cookie of a namespace that uses the table */
	__u64 table;  /* the table, where that is no namespace's: of UDP-Lite */
	__u32 bucket; /* where to begin; after the call, where to go on */
	__u32 skip;   /* how many sockets of that bucket a call before has read */
	__u32 zero;   /* 0, which the verifier must not know: it would unroll the loops */
	__u32 file;   /* a descriptor of a UDP-Lite socket */
	/* What is answered. */
	__u32 records; /* or namespaces */
	__u32 buckets; /* of the table; 0 if the namespace is gone */
	__u32 moved;   /* how often a bucket was read again, since a socket left it */
	__u32 pad;
};

#define ENOUGH 4096   /* records, after which a call ends with the bucket */
#define CAPACITY 8192 /* records, at which it ends within one */
#define REPEATS 16    /* how often a call reads buckets again */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CAPACITY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CAPACITY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct namespace);
} namespaces SEC(".maps");

/* ---- the list of network namespaces ---- */

struct list {
	__u64 first, net, ops;
	__u64 wanted; /* a cookie; 0 lists all */
	__u32 n, found;
};

static __always_inline __u64 operations_of(__u64 net)
{
	return load64(net + offset_of(struct net, ns) + offset_of(struct ns_common, ops));
}

/* The head of the list is in no net, so what lies around it has other operations. */
static __always_inline bool is_net(struct list *l)
{
	return operations_of(l->net) == l->ops;
}

static __always_inline long next_net(struct list *l)
{
	l->net = load64(l->net + offset_of(struct net, list)) - offset_of(struct net, list);
	return l->net == l->first;
}

static long list_net(__u32 i, struct list *l)
{
	if (is_net(l)) {
		struct net *net = at(struct net, l->net);
		__u32 k = l->n;
		struct namespace *r = bpf_map_lookup_elem(&namespaces, &k);
		l->n++;
		if (r) {
			r->cookie = net->net_cookie;
			r->inode = net->ns.inum;
			r->tcp = (__u64)net->ipv4.tcp_death_row.hashinfo->ehash;
			r->udp = (__u64)net->ipv4.udp_table->hash;
		}
	}
	return next_net(l);
}

static long find_net(__u32 i, struct list *l)
{
	if (is_net(l) && at(struct net, l->net)->net_cookie == l->wanted) {
		l->found = 1;
		return 1;
	}
	return next_net(l);
}

static __always_inline void begin_list(struct list *l)
{
	struct task_struct *task = bpf_get_current_task_btf();
	l->first = l->net = load64((__u64)task->nsproxy + offset_of(struct nsproxy, net_ns));
	l->ops = operations_of(l->first);
}

/* The caller's own namespace comes first. */
SEC("syscall")
int list(struct call *call)
{
	struct list l = {.n = call->zero};
	bpf_rcu_read_lock();
	begin_list(&l);
	bpf_loop(1 << 20, list_net, &l, 0);
	bpf_rcu_read_unlock();
	call->records = l.n;
	return 0;
}

/* ---- the walks ---- */

struct walk {
	__u64 heads; /* the address of the first bucket */
	__u64 node;  /* a socket's node, or the end of a chain */
	__u32 bucket, buckets;
	__u32 n;     /* records */
	__u32 first; /* n at the beginning of the bucket */
	__u32 seen;  /* sockets of the bucket */
	__u32 skip, begin_skip, begin_bucket;
	__u32 repeats, moved, full;
};

static __always_inline __u64 head_of(struct walk *w, const enum table table)
{
	switch (table) {
	case ESTABLISHED:
		return load64(w->heads + (__u64)w->bucket * size_of(struct inet_ehash_bucket));
	case LISTENING:
		return load64(w->heads + (__u64)w->bucket * size_of(struct inet_listen_hashbucket) +
			      offset_of(struct inet_listen_hashbucket, nulls_head));
	default:
		return load64(w->heads + (__u64)w->bucket * size_of(struct udp_hslot));
	}
}

static __always_inline bool is_end(__u64 node, const enum table table)
{
	return table == UDP ? !node : node & 1;
}

/* A chain that ends with the marker of another was left on the way. */
static __always_inline bool ends_here(struct walk *w, const enum table table)
{
	__u32 marker = w->node >> 1;
	switch (table) {
	case ESTABLISHED:
		return marker == w->bucket;
	case LISTENING:
		return marker == w->bucket + LISTENING_NULLS_BASE;
	default:
		return 1;
	}
}

static __always_inline bool belongs_here(struct walk *w, struct sock_common *sk, const enum table table)
{
	switch (table) {
	case ESTABLISHED:
		return (sk->skc_hash & (w->buckets - 1)) == w->bucket;
	case LISTENING:
		return 1; /* it has no such hash: the end of the chain says so */
	default:
		return ((sk->skc_num + sk->skc_net.net->hash_mix) & (w->buckets - 1)) == w->bucket; /* udp_hashslot */
	}
}

static __always_inline void begin_bucket(struct walk *w, const enum table table)
{
	w->node = head_of(w, table);
	w->first = w->n;
	w->seen = 0;
	w->skip = w->bucket == w->begin_bucket ? w->begin_skip : 0;
}

#define AHEAD 16 /* buckets */
#define MOST 32  /* sockets of these */

/* load has something loaded that is not needed yet. */
#define load(type, field)                                               \
	if (has_field(type, field)) {                                   \
		__u64 value = load64(socket + offset_of(type, field));  \
		asm volatile("" : : "r"(value));                        \
	}

/* A walk mostly waits for memory, socket by socket: each lies in ten cache lines of its
 * own. So what a record takes of the next sockets is loaded ahead, in a loop so short
 * that the processor waits for several of them at the same time. A walk takes 0.6 of the
 * time. An address that is none, as that of the end of a chain, loads zero; what lies
 * behind a socket in TIME_WAIT, which is smaller, is loaded for nothing. */
static __attribute__((noinline)) void load_ahead(struct walk *w)
{
	__u64 nodes[MOST];
	__u32 n = 0;
#pragma clang loop unroll(full)
	for (int i = 0; i < AHEAD; i++) {
		nodes[n] = load64(w->heads + (__u64)(w->bucket + i) * size_of(struct inet_ehash_bucket));
		n += nodes[n] >> 63; /* an address of the kernel */
	}
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < MOST && i < n; i++) {
		__u64 socket = nodes[i] - offset_of(struct sock_common, skc_nulls_node);
		__u64 next = load64(nodes[i]);
		if (n < MOST) {
			nodes[n] = next;
			n += next >> 63;
		}
		load(struct sock_common, skc_daddr);
		load(struct sock, sk_uid);
		load(struct sock, sk_ino);
		load(struct sock, sk_cgrp_data);
		load(struct inet_sock, inet_flags);
		load(struct inet_connection_sock, icsk_retransmits);
		load(struct tcp_sock, copied_seq);
		load(struct tcp_sock, write_seq);
		load(struct tcp_sock, rcv_nxt);
	}
}

/* Most buckets are empty: up to 16 of them cost one call. */
static __always_inline long next_bucket(struct walk *w, const enum table table)
{
	w->bucket++;
	if (w->n >= ENOUGH || w->bucket >= w->buckets)
		return 1;
	if (table == ESTABLISHED && w->bucket % AHEAD == 0 && w->bucket + AHEAD <= w->buckets)
		load_ahead(w);
	w->node = head_of(w, table);
#pragma clang loop unroll(disable)
	for (int i = 0; i < 15 && is_end(w->node, table) && (w->bucket + 1) % AHEAD != 0; i++) {
		w->bucket++;
		if (w->bucket >= w->buckets)
			return 1;
		w->node = head_of(w, table);
	}
	w->first = w->n;
	w->seen = w->skip = 0;
	return 0;
}

/* A socket moved while the walk stood on it: the bucket is read again. */
static __always_inline bool repeats(struct walk *w, const enum table table)
{
	w->moved++;
	if (w->repeats == 0)
		return 0;
	w->repeats--;
	w->n = w->first;
	begin_bucket(w, table);
	return 1;
}

static __always_inline __u64 inode_of(struct sock *sk)
{
	if (has_field(struct sock, sk_ino))
		return sk->sk_ino;
	__u64 socket = (__u64)sk->sk_socket;
	if (!socket)
		return 0;
	return at(struct inode, socket + offset_of(struct socket_alloc, vfs_inode) - offset_of(struct socket_alloc, socket))->i_ino;
}

static __always_inline __u32 drops_of(struct sock *sk)
{
	if (has_field(struct sock, sk_drop_counters)) {
		struct numa_drop_counters *both = sk->sk_drop_counters;
		if (both)
			return both->drops0.counter + both->drops1.counter;
	}
	return sk->sk_drops.counter;
}

static __always_inline __u8 options_of(struct sock *sk)
{
	__u8 flags = 0;
	if (has_field(struct inet_sock, inet_flags)) {
		__u64 set = at(struct inet_sock, sk)->inet_flags;
		if (set & (1 << INET_FLAGS_TRANSPARENT))
			flags |= TRANSPARENT;
		if (set & (1 << INET_FLAGS_BIND_ADDRESS_NO_PORT))
			flags |= BIND_NO_PORT;
	} else {
		struct inet_sock___before_flags *inet = (void *)at(struct inet_sock, sk);
		if (bit_of(inet, transparent))
			flags |= TRANSPARENT;
		if (bit_of(inet, bind_address_no_port))
			flags |= BIND_NO_PORT;
	}
	return flags;
}

/* What a connection has to send and to retransmit, as tcp_diag_get_info and
 * inet_sk_diag_fill have it. */
static __always_inline void fill_connection(struct record *r, struct sock *sk)
{
	struct tcp_sock *tp = at(struct tcp_sock, sk);
	__s32 unread = tp->rcv_nxt - tp->copied_seq;
	r->receive = unread < 0 ? 0 : unread;
	r->send = tp->write_seq - tp->snd_una;
	switch (tp->inet_conn.icsk_pending) {
	case ICSK_TIME_RETRANS:
	case ICSK_TIME_LOSS_PROBE:
	case ICSK_TIME_REO_TIMEOUT:
		r->retransmits = tp->inet_conn.icsk_retransmits;
		break;
	case ICSK_TIME_PROBE0:
		r->flags |= ZERO_WINDOW;
		break;
	}
}

static __always_inline void fill_full(struct record *r, struct sock *sk, const enum table table)
{
	r->uid = sk->sk_uid.val;
	r->inode = inode_of(sk);
	if (has_field(struct sock, sk_cgrp_data))
		r->cgroup = sk->sk_cgrp_data.cgroup->kn->id;
	r->flags = options_of(sk);
	switch (table) {
	case ESTABLISHED:
		fill_connection(r, sk);
		return;
	case LISTENING:
		r->receive = sk->sk_ack_backlog;
		r->send = sk->sk_max_ack_backlog;
		break;
	default: /* udp_diag_get_info */
		r->receive = sk->sk_backlog.rmem_alloc.counter - at(struct udp_sock, sk)->forward_deficit;
		r->send = sk->sk_wmem_alloc.refs.counter - 1;
	}
	r->protocol = sk->sk_protocol;
	r->drops = drops_of(sk);
	if (bit_of(&sk->__sk_common, skc_ipv6only))
		r->flags |= V6ONLY;
}

static __always_inline void copy_address(__u8 *to, struct in6_addr *from)
{
	__u32 *words = (__u32 *)to;
	words[0] = from->in6_u.u6_addr32[0];
	words[1] = from->in6_u.u6_addr32[1];
	words[2] = from->in6_u.u6_addr32[2];
	words[3] = from->in6_u.u6_addr32[3];
}

static __always_inline void fill(struct record *r, struct sock_common *sk, const enum table table)
{
	__u8 state = sk->skc_state;
	__builtin_memset(r, 0, sizeof(*r));
	r->net = sk->skc_net.net->net_cookie;
	r->cookie = sk->skc_cookie.counter;
	r->device = sk->skc_bound_dev_if;
	r->local_port = sk->skc_num;
	r->remote_port = sk->skc_dport;
	r->family = sk->skc_family;
	r->state = state;
	r->protocol = IPPROTO_TCP;
	if (r->family == AF_INET6) {
		copy_address(r->local, &sk->skc_v6_rcv_saddr);
		copy_address(r->remote, &sk->skc_v6_daddr);
	} else {
		*(__u32 *)r->local = sk->skc_rcv_saddr;
		*(__u32 *)r->remote = sk->skc_daddr;
	}
	if (table != ESTABLISHED)
		fill_full(r, at(struct sock, sk), table);
	else if (state == TCP_TIME_WAIT)
		r->state = at(struct inet_timewait_sock, sk)->tw_substate;
	else if (state == TCP_NEW_SYN_RECV)
		r->retransmits = at(struct request_sock, sk)->num_retrans;
	else
		fill_full(r, at(struct sock, sk), table);
}

static __always_inline long step(struct walk *w, const enum table table)
{
	bool end = is_end(w->node, table);
	__u64 offset = table == UDP ? offset_of(struct sock_common, skc_node) : offset_of(struct sock_common, skc_nulls_node);
	struct sock_common *sk = at(struct sock_common, w->node - offset);
	if (end ? !ends_here(w, table) : !belongs_here(w, sk, table)) {
		if (repeats(w, table))
			return 0;
		end = 1;
	}
	if (end)
		return next_bucket(w, table);
	w->node = load64(w->node);
	w->seen++;
	if (w->seen <= w->skip || (table == LISTENING && sk->skc_state != TCP_LISTEN))
		return 0;
	__u32 k = w->n;
	struct record *r = bpf_map_lookup_elem(&records, &k);
	if (!r) {
		w->seen--;
		w->full = 1;
		return 1;
	}
	w->n++;
	fill(r, sk, table);
	return 0;
}

static long step_established(__u32 i, struct walk *w)
{
	return step(w, ESTABLISHED);
}

static long step_listening(__u32 i, struct walk *w)
{
	return step(w, LISTENING);
}

static long step_udp(__u32 i, struct walk *w)
{
	return step(w, UDP);
}

/* The namespace that uses the table is looked up at each call: as long as it is on the
 * list and RCU is held, the table is there. */
static __always_inline bool find_table(struct walk *w, struct call *call, const enum table table)
{
	struct list l = {.wanted = call->net, .n = call->zero};
	begin_list(&l);
	bpf_loop(1 << 20, find_net, &l, 0);
	if (!l.found)
		return 0;
	struct net *net = at(struct net, l.net);
	if (table == UDP) {
		struct udp_table *udp = net->ipv4.udp_table;
		if (call->table)
			udp = at(struct udp_table, call->table);
		w->heads = (__u64)udp->hash;
		w->buckets = udp->mask + 1;
		return 1;
	}
	struct inet_hashinfo *tcp = net->ipv4.tcp_death_row.hashinfo;
	w->heads = table == LISTENING ? (__u64)tcp->lhash2 : (__u64)tcp->ehash;
	w->buckets = (table == LISTENING ? tcp->lhash2_mask : tcp->ehash_mask) + 1;
	return 1;
}

static __always_inline int run(struct call *call, const enum table table, void *step)
{
	struct walk w = {.bucket = call->bucket, .n = call->zero, .repeats = REPEATS};
	call->buckets = 0;
	bpf_rcu_read_lock();
	if (find_table(&w, call, table) && w.bucket < w.buckets) {
		w.begin_bucket = w.bucket;
		w.begin_skip = call->skip;
		begin_bucket(&w, table);
		bpf_loop(1 << 23, step, &w, 0);
		call->buckets = w.buckets;
	}
	bpf_rcu_read_unlock();
	call->records = w.n;
	call->bucket = w.bucket;
	call->skip = w.full ? w.seen : 0;
	call->moved = w.moved;
	return 0;
}

SEC("syscall")
int walk_established(struct call *call)
{
	return run(call, ESTABLISHED, step_established);
}

SEC("syscall")
int walk_listening(struct call *call)
{
	return run(call, LISTENING, step_listening);
}

SEC("syscall")
int walk_udp(struct call *call)
{
	return run(call, UDP, step_udp);
}

/* No namespace knows the table of UDP-Lite: the caller's own socket does. */
SEC("syscall")
int find_udplite(struct call *call)
{
	struct task_struct *task = bpf_get_current_task_btf();
	call->table = 0;
	bpf_rcu_read_lock();
	struct fdtable *files = task->files->fdt;
	if (call->file < files->max_fds) {
		struct file *file = at(struct file, load64((__u64)files->fd + 8 * (__u64)call->file));
		struct socket *socket = at(struct socket, file->private_data);
		call->table = (__u64)socket->sk->__sk_common.skc_prot->h.udp_table;
	}
	bpf_rcu_read_unlock();
	return 0;
}

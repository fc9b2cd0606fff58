"""What a redis.conf may say: the directives of Redis 7.0, in the shapes that its server takes
(learned by giving each a wrong value), and the names that later versions and Valkey added.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_TABLE = """
flag: activedefrag activerehashing always-show-logo aof-disable-auto-gc aof-load-truncated
  aof-rewrite-incremental-fsync aof-timestamp-enabled aof-use-rdb-preamble appendonly
  cluster-allow-pubsubshard-when-down cluster-allow-reads-when-down
  cluster-allow-replica-migration cluster-enabled cluster-replica-no-failover
  cluster-require-full-coverage cluster-slave-no-failover crash-log-enabled
  crash-memcheck-enabled daemonize disable-thp dynamic-hz io-threads-do-reads
  jemalloc-bg-thread latency-tracking lazyfree-lazy-eviction lazyfree-lazy-expire
  lazyfree-lazy-server-del lazyfree-lazy-user-del lazyfree-lazy-user-flush
  no-appendfsync-on-rewrite protected-mode rdb-del-sync-files rdb-save-incremental-fsync
  rdbchecksum rdbcompression repl-disable-tcp-nodelay repl-diskless-sync replica-announced
  replica-ignore-disk-write-errors replica-ignore-maxmemory replica-lazy-flush
  replica-read-only replica-serve-stale-data set-proc-title slave-ignore-maxmemory
  slave-lazy-flush slave-read-only slave-serve-stale-data stop-writes-on-bgsave-error
  syslog-enabled tls-cluster tls-prefer-server-ciphers tls-replication tls-session-caching
size: active-defrag-ignore-bytes auto-aof-rewrite-min-size client-query-buffer-limit
  cluster-link-sendbuf-limit hash-max-listpack-value hash-max-ziplist-value
  hll-sparse-max-bytes maxmemory proto-max-bulk-len repl-backlog-size stream-node-max-bytes
  zset-max-listpack-value zset-max-ziplist-value
-int..int: list-max-listpack-size list-max-ziplist-size
-1..huge: slowlog-log-slower-than
0..100: maxmemory-eviction-tenacity
0..1000: active-defrag-threshold-lower active-defrag-threshold-upper
0..65535: cluster-announce-bus-port cluster-announce-port cluster-announce-tls-port
  cluster-port port replica-announce-port slave-announce-port tls-port
0..int: auto-aof-rewrite-percentage cluster-migration-barrier cluster-replica-validity-factor
  cluster-slave-validity-factor hz lfu-decay-time lfu-log-factor list-compress-depth
  min-replicas-max-lag min-replicas-to-write min-slaves-max-lag min-slaves-to-write
  repl-diskless-sync-delay repl-diskless-sync-max-replicas replica-priority shutdown-timeout
  slave-priority tcp-backlog tcp-keepalive timeout tls-session-cache-size
  tls-session-cache-timeout
0..uint: socket-mark-id
0..huge: acllog-max-len busy-reply-threshold cluster-node-timeout hash-max-listpack-entries
  hash-max-ziplist-entries latency-monitor-threshold lua-time-limit repl-backlog-ttl
  set-max-intset-entries slowlog-max-len stream-node-max-entries tracking-table-max-keys
  zset-max-listpack-entries zset-max-ziplist-entries
1..10: active-expire-effort
1..99: active-defrag-cycle-max active-defrag-cycle-min
1..128: io-threads
1..int: databases maxmemory-samples repl-ping-replica-period repl-ping-slave-period
  repl-timeout
1..uint: maxclients
1..huge: active-defrag-max-scan-fields
allchannels|resetchannels: acl-pubsub-default
everysec|always|no: appendfsync
ip|hostname|unknown-endpoint: cluster-preferred-endpoint-type
no|yes|local: enable-debug-command enable-module-command enable-protected-configs
debug|verbose|notice|warning: loglevel
volatile-lru|volatile-lfu|volatile-random|volatile-ttl|allkeys-lru|allkeys-lfu|allkeys-random|noeviction:
  maxmemory-policy
no|yes|relative|absolute: oom-score-adj
ignore|panic|panic-on-replicas: propagation-error-behavior
disabled|on-empty-db|swapdb: repl-diskless-load
no|yes|clients: sanitize-dump-payload
default|save|nosave|now|force: shutdown-on-sigint shutdown-on-sigterm
upstart|systemd|auto|no: supervised
user|local0|local1|local2|local3|local4|local5|local6|local7: syslog-facility
no|yes|optional: tls-auth-clients
other: aclfile aof_rewrite_cpulist appenddirname appendfilename bgsave_cpulist bind
  bind-source-addr bio_cpulist client-output-buffer-limit cluster-announce-hostname
  cluster-announce-ip cluster-config-file dbfilename dir ignore-warnings include
  latency-tracking-info-percentiles loadmodule logfile masterauth masteruser maxmemory-clients
  notify-keyspace-events oom-score-adj-values pidfile proc-title-template rename-command
  replica-announce-ip replicaof requirepass save server_cpulist slave-announce-ip slaveof
  syslog-ident tls-ca-cert-dir tls-ca-cert-file tls-cert-file tls-ciphers tls-ciphersuites
  tls-client-cert-file tls-client-key-file tls-client-key-file-pass tls-dh-params-file
  tls-key-file tls-key-file-pass tls-protocols unixsocket unixsocketperm user
later: availability-zone cluster-announce-client-ipv4 cluster-announce-client-ipv6
  cluster-announce-human-nodename cluster-manual-failover-timeout cluster-slot-stats-enabled
  commandlog-execution-slower-than commandlog-large-reply-max-len
  commandlog-large-request-max-len commandlog-reply-larger-than commandlog-request-larger-than
  commandlog-slow-execution-max-len dual-channel-replication-enabled events-per-io-thread
  extended-redis-compatibility hide-user-data-from-log import-mode locale-collate
  max-new-connections-per-cycle max-new-tls-connections-per-cycle prefetch-batch-max-size
  primaryauth primaryuser rdma-bind rdma-port replica-full-sync-buffer-limit
  set-max-listpack-entries set-max-listpack-value unixsocketgroup
"""
_BOUNDS = {"-int": -(2**31), "int": 2**31 - 1, "uint": 2**32 - 1, "huge": 2**63 - 1}


def _read() -> dict[str, str]:
    shapes: dict[str, str] = {}
    shape = ""
    for word in _TABLE.split():
        if word.endswith(":"):
            shape = word[:-1]
        else:
            shapes[word] = shape
    return shapes


SHAPES: Mapping[str, str] = MappingProxyType(_read())
"""The shape of each directive's value: `flag` (yes or no), `size` (bytes, or a number with k, kb,
m, mb, g, gb), `low..high` (a whole number), `a|b` (one of these words), `other` (none of those),
`later` (known to later versions only).
"""


def bounds(shape: str) -> tuple[int, int]:
    """The least and the most of a whole number, of a shape `low..high`."""
    low, _, high = shape.partition("..")
    return _BOUNDS.get(low) or int(low), _BOUNDS.get(high) or int(high)

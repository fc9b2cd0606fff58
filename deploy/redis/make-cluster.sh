#!/bin/sh
# Joins empty nodes to a cluster, unless they are one already: make-cluster.sh HOST:PORT...
set -eu

first=$1
if [ -n "${REDIS_PASSWORD:-}" ]; then
  export REDISCLI_AUTH="$REDIS_PASSWORD"
fi
if ! redis-cli -h "${first%:*}" -p "${first##*:}" cluster info | grep -q '^cluster_known_nodes:1[^0-9]*$'; then
  echo 'the nodes are a cluster already'
  exit 0
fi
redis-cli --cluster create "$@" --cluster-yes

#!/bin/sh
# Whether the Redis that start.sh started answers: with its password, over TLS where it speaks that.
set -eu

set -- -p "${REDIS_PORT:-6379}"
if [ -n "${REDIS_TLS_FOLDER:-}" ]; then
  set -- "$@" --tls --insecure # whoever asks is in the same container
  if [ "${REDIS_TLS_CLIENTS:-}" = yes ]; then
    set -- "$@" --cert "$REDIS_TLS_FOLDER/redis.crt" --key "$REDIS_TLS_FOLDER/redis.key"
  fi
fi
if [ -n "${REDIS_PASSWORD:-}" ]; then
  export REDISCLI_AUTH="$REDIS_PASSWORD"
fi
[ "$(redis-cli "$@" ping)" = PONG ]

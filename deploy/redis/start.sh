#!/bin/sh
# Starts Redis in a container: redis.conf beside this file, the environment on top of it, and on
# top of that the arguments, which are options of redis-server.
#
#   REDIS_MAXMEMORY         as of `maxmemory`
#   REDIS_MAXMEMORY_POLICY  as of `maxmemory-policy`
#   REDIS_PASSWORD          what clients must say; empty for none
#   REDIS_TLS_FOLDER        redis.crt, redis.key and ca.crt: speak TLS on REDIS_PORT, and only TLS
#   REDIS_TLS_CLIENTS       whether clients need a certificate too: yes, no or optional (default)
#   REDIS_PORT              default: 6379
set -eu

port=${REDIS_PORT:-6379}
private=$(mktemp -d) # nobody else can look into it
cat "$(dirname "$0")/redis.conf" >"$private/redis.conf"
if [ -n "${REDIS_PASSWORD:-}" ]; then # not as an argument, which everybody can read
  quoted=$(printf '%s' "$REDIS_PASSWORD" | sed 's/[\\"]/\\&/g')
  printf 'requirepass "%s"\n' "$quoted" >>"$private/redis.conf"
fi

# Compose publishes the port on loopback; inside, a client comes from the address of a bridge.
set -- --protected-mode no --bind '* -::*' --port "$port" "$@"
[ -z "${REDIS_MAXMEMORY:-}" ] || set -- --maxmemory "$REDIS_MAXMEMORY" "$@"
[ -z "${REDIS_MAXMEMORY_POLICY:-}" ] || set -- --maxmemory-policy "$REDIS_MAXMEMORY_POLICY" "$@"

if [ -n "${REDIS_TLS_FOLDER:-}" ]; then
  for file in redis.crt redis.key; do
    [ -f "$REDIS_TLS_FOLDER/$file" ] || {
      echo "start.sh: there is no $file in $REDIS_TLS_FOLDER; deploy/redis/make-certs.sh makes one" >&2
      exit 1
    }
    cp "$REDIS_TLS_FOLDER/$file" "$private"
  done
  # A self-signed certificate is its own authority.
  authority=ca.crt
  [ -f "$REDIS_TLS_FOLDER/ca.crt" ] || authority=redis.crt
  cp "$REDIS_TLS_FOLDER/$authority" "$private/ca.crt"
  set -- --tls-cert-file "$private/redis.crt" --tls-key-file "$private/redis.key" \
    --tls-ca-cert-file "$private/ca.crt" --tls-protocols 'TLSv1.2 TLSv1.3' \
    --tls-auth-clients "${REDIS_TLS_CLIENTS:-optional}" "$@" --port 0 --tls-port "$port"
fi

# The image's entry point gives up root for the user redis, who must read these.
entry=$(command -v docker-entrypoint.sh || true)
[ -z "$entry" ] || chown -R redis "$private"
exec ${entry:+"$entry"} redis-server "$private/redis.conf" "$@"

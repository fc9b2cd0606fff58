#!/bin/sh
# Deletes all cached data, after asking: emergency_cache_reset.sh
#
# Where docker runs the cache (docker-compose.cache.yml beside this folder): stops it, removes the
# volumes of that compose project and of no other, and starts it again. Anywhere else:
# `querycache reset`. COMPOSE_PROJECT_NAME and .env are read as docker compose reads them.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
file=$root/docker-compose.cache.yml

echo 'WARNING: This will delete all cached data!'
printf 'Are you sure? (yes/no): '
read -r answer || answer=no
if [ "$answer" != yes ]; then
  echo 'Reset cancelled'
  exit 1
fi

compose() {
  docker compose -f "$file" "$@"
}

if command -v docker >/dev/null 2>&1 && [ -n "$(compose ps --all --quiet 2>/dev/null)" ]; then
  echo 'Stopping cache services...'
  echo 'Removing cache data...'
  compose --profile '*' down --volumes --timeout 60
  echo 'Starting fresh cache services...'
  compose up -d
else
  echo 'No cache service of docker is running here: resetting what querycache is set up to use...'
  if command -v querycache >/dev/null 2>&1; then
    querycache reset --yes
  else
    "$root/.venv/bin/querycache" reset --yes
  fi
fi
echo 'Cache system reset complete'

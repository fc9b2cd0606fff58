#!/bin/sh
# Deletes all cached data, after asking: emergency_cache_reset.sh
#
# Where docker runs the cache (docker-compose.cache.yml beside this folder), or keeps its volumes:
# stops it, removes the volumes of that compose project and of no other, and starts again what was
# there. Anywhere else: `querycache reset`. COMPOSE_PROJECT_NAME and .env are read as docker compose
# reads them.
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
  docker compose -f "$file" --profile '*' "$@"
}

# Whether docker has something of ours; `services` are those with a container.
docker_has_it() {
  command -v docker >/dev/null 2>&1 || return 1
  services=$(compose ps --all --services 2>/dev/null) || return 1
  [ -z "$services" ] || return 0
  project=$(compose config 2>/dev/null | sed -n 's/^name: *"\{0,1\}\([^"]*\).*/\1/p')
  label=label=com.docker.compose.project=$project
  [ -n "$project" ] && [ -n "$(docker volume ls --quiet --filter "$label" 2>/dev/null)" ]
}

if docker_has_it; then
  echo 'Stopping cache services...'
  echo 'Removing cache data...'
  compose down --volumes --timeout 60
  echo 'Starting fresh cache services...'
  # shellcheck disable=SC2086 # one word for each service
  docker compose -f "$file" up -d $services
else
  echo 'No cache service of docker is running here: resetting what querycache is set up to use...'
  if command -v querycache >/dev/null 2>&1; then
    querycache reset --yes
  else
    "$root/.venv/bin/querycache" reset --yes
  fi
fi
echo 'Cache system reset complete'

#!/bin/sh
# Sees to it that the programs named as arguments are there; what is missing is installed with the
# system's package manager, or else it says what to install and fails.
#
# It starts no service, and no test uses one. Where systemd runs, Debian's package starts its own
# server on port 6379 all the same: `systemctl disable --now redis-server` ends that.
set -eu

there() {
  case $1 in
    redis-server)
      [ -n "${TEST_REDIS_SERVER:-}" ] || command -v redis-server || command -v valkey-server ;;
    redis-cli) command -v redis-cli || command -v valkey-cli ;;
    chromium) command -v chromium || command -v chromium-browser ;;
    *) command -v "$1" ;;
  esac >/dev/null
}

missing() {
  for program; do
    there "$program" || printf '%s ' "$program"
  done
}

# The package of a program, where it has another name; alternatives are tried in turn.
packages_of() {
  case $manager:$1 in
    apt-get:redis-cli) echo redis-tools ;;
    brew:redis-* | apk:redis-*) echo redis ;;
    dnf:redis-* | zypper:redis-* | pacman:redis-*) echo redis valkey ;;
    brew:openssl) echo openssl@3 ;;
    apt-get:chromium) echo chromium chromium-browser ;;
    *) echo "$1" ;;
  esac
}

install() {
  case $manager in
    apt-get)
      $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
        --no-install-recommends "$1" ;;
    apk) $as_root apk add "$1" ;;
    pacman) $as_root pacman -S --noconfirm "$1" ;;
    brew) brew install --quiet "$1" ;;
    *) $as_root "$manager" install -y "$1" ;;
  esac
}

lacking=$(missing "$@")
[ -n "$lacking" ] || exit 0

as_root='' manager=''
for known in apt-get dnf apk zypper pacman brew; do
  if command -v "$known" >/dev/null; then
    manager=$known
    break
  fi
done
if [ "$(id -u)" -ne 0 ] && [ "$manager" != brew ]; then
  as_root='sudo -n'
  $as_root true 2>/dev/null || manager=''
fi

if [ -n "$manager" ]; then
  echo "tests/needs.sh: installing what the tests need with $manager: $lacking" >&2
  [ "$manager" != apt-get ] || $as_root apt-get update -q >&2 || true
  for program in $lacking; do
    for package in $(packages_of "$program"); do
      there "$program" || install "$package" >&2 || true
    done
  done
fi

lacking=$(missing "$@")
if [ -n "$lacking" ]; then
  echo "tests/needs.sh: the tests need these programs; please install them: $lacking" >&2
  exit 1
fi

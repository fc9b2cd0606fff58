#!/bin/sh
# Makes a certificate authority, a certificate of the server and one of a client, for Redis over TLS.
set -eu

usage() {
  cat <<'TEXT'
usage: make-certs.sh [--force] [--days N] [FOLDER] [NAME...]

Writes ca.crt, ca.key, redis.crt, redis.key, client.crt and client.key into FOLDER
(default: certs beside this script). The server's certificate is for localhost, 127.0.0.1, ::1
and each NAME: a host name or an IP address that clients call the server by.

  --force    replace the files that are there
  --days N   how long the certificates are valid (default: 365)

ca.crt goes to every client (REDIS_SSL_CA_CERT_PATH); keep ca.key off the servers.
TEXT
}

fail() {
  echo "make-certs.sh: $1" >&2
  exit 1
}

force='' days=365
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --force) force=yes; shift ;;
    --days)
      days=${2:-}
      case $days in '' | *[!0-9]*) fail '--days wants a number' ;; esac
      shift 2 ;;
    --) shift; break ;;
    -*) usage >&2; exit 2 ;;
    *) break ;;
  esac
done
command -v openssl >/dev/null || fail 'openssl is not installed'

folder=${1:-$(dirname "$0")/certs}
[ $# -eq 0 ] || shift
names='DNS:localhost,IP:127.0.0.1,IP:::1'
for name; do
  case $name in
    *[!A-Za-z0-9.:*_-]*) fail "not a host name or an address: $name" ;;
    *:*) names="$names,IP:$name" ;;
    *[!0-9.]*) names="$names,DNS:$name" ;;
    *) names="$names,IP:$name" ;;
  esac
done

mkdir -p "$folder"
cd "$folder"
for file in ca.crt ca.key redis.crt redis.key client.crt client.key; do
  if [ -e "$file" ] && [ -z "$force" ]; then
    fail "$folder/$file exists; --force replaces it"
  fi
done

umask 077 # keys are made readable by their owner alone, not changed to be so afterwards
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"
}

# sign FILE COMMON_NAME EXTENSION...
sign() {
  file=$1 common_name=$2
  shift 2
  key "$file"
  printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' \
    'subjectKeyIdentifier=hash' 'authorityKeyIdentifier=keyid' "$@" >"$work/$file.ext"
  openssl req -new -config "$work/ca.cnf" -key "$work/$file.key" \
    -subj "/O=querycache/CN=$common_name" -out "$work/$file.csr"
  openssl x509 -req -in "$work/$file.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" \
    -set_serial "0x$(openssl rand -hex 16)" -days "$days" -sha256 \
    -extfile "$work/$file.ext" -out "$work/$file.crt" 2>"$work/said" ||
    { cat "$work/said" >&2; exit 1; }
}

key ca
# The system's own configuration may add to what is asked for, or lack it.
cat >"$work/ca.cnf" <<'TEXT'
[req]
distinguished_name = name
x509_extensions = authority
prompt = no
[name]
O = querycache
CN = querycache Redis CA
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
TEXT
openssl req -x509 -new -config "$work/ca.cnf" -key "$work/ca.key" -sha256 -days "$days" \
  -out "$work/ca.crt"
# A server uses it as a client too: towards its primary, and on the bus of a cluster.
sign redis localhost "subjectAltName=$names" 'extendedKeyUsage=serverAuth,clientAuth'
sign client querycache 'extendedKeyUsage=clientAuth'

for file in ca redis client; do
  mv -f "$work/$file.key" "$work/$file.crt" .
  chmod 644 "$file.crt"
done
echo "certificates for $names, valid for $days days: $folder"

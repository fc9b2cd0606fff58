#!/usr/bin/env bash
# Pins requirements/*.txt anew from pyproject.toml, with hashes and without addresses. Wants uv; run by `make lock`.
set -euo pipefail
cd "$(dirname "$0")"
compile() {
  uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-annotate --custom-compile-command "make lock" ../pyproject.toml "$@"
}
compile --group ../pyproject.toml:build -o base.txt
compile --group ../pyproject.toml:build --group ../pyproject.toml:dev -c base.txt -o dev.txt
compile --extra qdrant -c base.txt -o qdrant.txt
compile --extra otel -c base.txt -o otel.txt
compile --extra minilm -c base.txt -o minilm.txt
compile --extra bench -c base.txt -o bench.txt

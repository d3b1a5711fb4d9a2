#!/usr/bin/env bash
# Resolves the dependencies of pyproject.toml into requirements/*.lock, for Python 3.11 to 3.14.
set -euo pipefail
cd "$(dirname "$0")/.."
resolve() {
  local out=$1; shift
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-annotate --custom-compile-command "make lock" \
    pyproject.toml "$@" --output-file "requirements/$out"
}
resolve runtime.lock
resolve dev.lock --extra dev --extra examples
resolve bench.lock --extra bench --extra dev

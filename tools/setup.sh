#!/usr/bin/env bash
# Makes the virtual environment in the checkout: `tools/setup.sh [--python PYTHON] DIRECTORY LOCK…`.
# Installs python3-venv and bubblewrap through the system's package manager where that needs no
# password; else says in one line what to type. Nothing of the machine's own Python packages is used.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0

wanted=""
if [ "${1:-}" = "--python" ]; then wanted=$2; shift 2; fi
target=$1; shift

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

is_usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }

find_python() {
  for candidate in ${wanted:-${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11}; do
    if is_usable "$candidate"; then command -v "$candidate"; return; fi
  done
  say "No Python 3.11 or newer was found. Type: sudo apt-get install python3 python3-venv"
  exit 1
}

# Succeeds only where the package manager can be used without asking for a password.
install_packages() {
  command -v apt-get >/dev/null || return 1
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  say "Installing with the system's package manager: $*"
  local quiet=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y)
  "${as_root[@]}" "${quiet[@]}" install "$@" >/dev/null 2>&1 && return
  "${as_root[@]}" "${quiet[@]}" update >/dev/null && "${as_root[@]}" "${quiet[@]}" install "$@" >/dev/null
}

python=$(find_python)
if ! has_venv "$python"; then
  minor=$("$python" -c 'import sys; print(f"python3.{sys.version_info[1]}-venv")')
  install_packages "$minor" || install_packages python3-venv || {
    say "Python's venv module is missing. Type: sudo apt-get install $minor"; exit 1; }
fi
if [ "$(uname -s)" = Linux ] && ! command -v bwrap >/dev/null; then
  install_packages bubblewrap ||
    say "bubblewrap is missing: skills would run in a weaker sandbox, or not at all. Type: sudo apt-get install bubblewrap"
fi

say "Building $target with $("$python" --version), from $*"
rm -rf "$target"
"$python" -m venv "$target"
arguments=()
for lock in "$@"; do arguments+=(-r "$lock"); done
"$target/bin/pip" install --quiet --only-binary :all: --require-hashes "${arguments[@]}"
"$target/bin/pip" install --quiet --no-deps --no-build-isolation --no-index --editable .
touch "$target/.ready"

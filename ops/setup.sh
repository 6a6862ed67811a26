#!/usr/bin/env bash
# Makes a virtual environment with the pinned dependencies and the project:
#
#   ops/setup.sh [VENV] [run|dev|docs]
#
# `run` has what a node and the command line need, `dev` all that the tests need, `docs` the site's.
# PYTHON names the interpreter to use; without it, one is looked for.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${1:-.venv}
purpose=${2:-dev}

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

explain_missing_python() {
    local name=${PYTHON:-python3} found
    if found=$("$name" --version 2>&1); then
        fail "$found is too old; Synap needs Python 3.11 or newer." \
            "Install one (Debian: apt-get install python3.11 python3.11-venv), or name it: PYTHON=/path/to/python3.12 make setup"
    fi
    fail "no Python was found${PYTHON:+ at $PYTHON}; Synap needs Python 3.11 or newer." \
        "Debian: apt-get install python3 python3-venv"
}

make_venv() {
    if "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        return
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python can't make virtual environments. Debian: apt-get install python3-venv"
    rm -rf "$venv"
    "$python" -m venv "$venv"
}

install() {
    local show=(--quiet)
    # Somebody looks: each package with its progress.
    if [ -t 1 ]; then show=(--progress-bar on); fi
    "$venv/bin/python" -m pip install "${show[@]}" --disable-pip-version-check -c constraints.txt "$@" |
        { grep -v '^Requirement already satisfied' || true; }
}

explain_failed_install() {
    if ! command -v cc >/dev/null && ! command -v gcc >/dev/null; then
        fail "installing failed, and there is no C compiler." \
            "Where a package has no wheel for this machine it must be compiled: install a compiler" \
            "and Python's headers (Debian: apt-get install build-essential python3-dev), then try again."
    fi
    fail "installing failed; pip's message is above."
}

python=$(find_python) || explain_missing_python
make_venv
echo "setup: installing into $venv with $("$venv/bin/python" --version), to $purpose"
install hatchling editables || explain_failed_install
case $purpose in
    run) wanted=(--editable '.[shell]') ;;
    docs) wanted=(--editable '.[shell,docs]') ;;
    *) wanted=(--editable '.[dev]' --editable clients/python) ;;
esac
install --no-build-isolation "${wanted[@]}" || explain_failed_install

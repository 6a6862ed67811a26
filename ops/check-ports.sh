#!/usr/bin/env bash
# Says before anything is installed that a port of this machine is taken; exits with 1 then.
set -uo pipefail

usage() {
    echo 'usage: ops/check-ports.sh PORT…'
}

case ${1:-} in
    -h | --help) usage && exit 0 ;;
    '' | *[!0-9]*) usage >&2 && exit 2 ;;
esac
for port in "$@"; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        printf 'run: port %s of this machine is taken; see what listens: ss -ltnp "sport = :%s"\n' \
            "$port" "$port" >&2
        printf 'run: stop that, or choose others: .venv/bin/synap cluster --base-port 16500\n' >&2
        exit 1
    fi
done

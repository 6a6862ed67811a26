#!/usr/bin/env bash
# Runs the cluster of docker-compose.yml.
#
#   ops/docker-deploy.sh start         start all nodes and wait until they are healthy
#   ops/docker-deploy.sh stop          stop them; containers and data stay
#   ops/docker-deploy.sh restart       stop, then start
#   ops/docker-deploy.sh status        the containers, and the cluster as its master sees it
#   ops/docker-deploy.sh logs [NODE]   follow the logs of one node (master, replica1, …) or of all
#   ops/docker-deploy.sh health        each node's health and each replica's lag; exit 1 where one is bad
#   ops/docker-deploy.sh clean [--yes] remove containers, network AND DATA; asks first
#
# Options, before the command:
#   --file FILE       a Compose file, may be repeated (default: docker-compose.yml)
#   --profile NAME    also the services of a profile: lb, monitoring
#   --timeout SECONDS how long start waits for the nodes (default: 120)
#
# COMPOSE names the program; without it `docker compose`, `docker-compose` or `podman-compose` is
# taken, in that order.
#
# Exit codes: 0 done, and all is well; 1 something is not; 2 wrong use.
set -euo pipefail

fail() {
    printf 'docker-deploy: %s\n' "$2" >&2
    exit "$1"
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

find_compose() {
    if [ -n "${COMPOSE:-}" ]; then
        read -ra compose <<<"$COMPOSE"
    elif docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
    elif command -v docker-compose >/dev/null; then
        compose=(docker-compose)
    elif command -v podman-compose >/dev/null; then
        compose=(podman-compose)
    else
        fail 1 "no Compose is installed: neither docker compose, docker-compose nor podman-compose"
    fi
    engine=docker
    case ${compose[*]} in *podman*) engine=podman ;; esac
}

# The containers of the cluster's nodes, the master first.
nodes() {
    "$engine" ps --all --format '{{.Names}}' | grep -E '^synap-(master|replica[0-9]+)$' | sort || true
}

state_of() {
    "$engine" inspect --format '{{.State.Status}}{{if .State.Health}} {{.State.Health.Status}}{{end}}' "$1"
}

# Why a node is not healthy, in one line: the last check's words, else the log's end.
reason_of() {
    local words
    words=$("$engine" inspect --format '{{if .State.Health}}{{range .State.Health.Log}}{{.Output}}{{"\n"}}{{end}}{{end}}' "$1" 2>/dev/null | grep -v '^$' | tail -n 1 || true)
    if [ -z "$words" ] || [[ $(state_of "$1") != running* ]]; then
        words=$("$engine" logs --tail 3 "$1" 2>&1 | tr '\n' ' ' || true)
    fi
    printf '%s' "${words:-no reason was given; see: ops/docker-deploy.sh logs ${1#synap-}}"
}

wait_until_healthy() {
    local end=$((SECONDS + timeout)) node state bad told=
    while :; do
        bad=()
        for node in $(nodes); do
            state=$(state_of "$node")
            [ "$state" = "running healthy" ] || bad+=("$node")
        done
        [ -n "$(nodes)" ] || fail 1 "no node was started"
        [ ${#bad[@]} -gt 0 ] || break
        if [ "$SECONDS" -ge "$end" ]; then
            for node in "${bad[@]}"; do
                printf 'docker-deploy: %s is %s: %s\n' "$node" "$(state_of "$node")" "$(reason_of "$node")" >&2
            done
            fail 1 "not all nodes are healthy after $timeout s"
        fi
        if [ "${bad[*]}" != "$told" ]; then
            told=${bad[*]}
            echo "waiting for $told"
        fi
        sleep 1
    done
    echo "all nodes are healthy: $(nodes | tr '\n' ' ')"
}

show_health() {
    local node facts url=http://127.0.0.1:15500 code=0
    [ -n "$(nodes)" ] || fail 1 "no node runs; ops/docker-deploy.sh start"
    for node in $(nodes); do
        if facts=$("$engine" exec "$node" python -P -m workers.health 2>&1); then
            printf '%-16s healthy    %s\n' "$node" "$facts"
            # The node's own word, since it may speak HTTPS: "master at URL: healthy".
            url=$(sed -n 's/.* at \(http[^ ]*\): .*/\1/p' <<<"$facts" | head -n 1)
        else
            code=1
            printf '%-16s UNHEALTHY  %s\n' "$node" "$(tail -n 1 <<<"$facts")"
        fi
    done
    echo
    for node in $(nodes); do
        # The first node that answers knows the others; 4 says that it answered and one is bad.
        "$engine" exec "$node" synap status --check --url "$url" && return "$code"
        [ $? -ne 4 ] || return 1
    done
    return 1
}

confirm_clean() {
    [ "${1:-}" != --yes ] || return 0
    [ -t 0 ] || fail 2 "clean removes all data; say --yes where nobody can be asked"
    printf 'This removes the containers and ALL DATA of: %s\nType yes to go on: ' "$(nodes | tr '\n' ' ')"
    local answer
    read -r answer
    [ "$answer" = yes ] || fail 1 "nothing was removed"
}

cd "$(dirname "$0")/.."
timeout=120
options=()
while [ $# -gt 0 ]; do
    case $1 in
        --file | -f) options+=(--file "${2:?--file needs a value}"); shift 2 ;;
        --profile) options+=(--profile "${2:?--profile needs a name}"); shift 2 ;;
        --timeout) timeout=${2:?--timeout needs seconds}; shift 2 ;;
        --help | -h) usage; exit 0 ;;
        -*) fail 2 "unknown option $1; see --help" ;;
        *) break ;;
    esac
done
[[ $timeout =~ ^[1-9][0-9]*$ ]] || fail 2 "--timeout $timeout is not a whole number of seconds"
[ $# -gt 0 ] || { usage >&2; exit 2; }
command=$1
shift
case $command in
    start | stop | restart | status | logs | health | clean) ;;
    *) fail 2 "unknown command $command; see --help" ;;
esac
find_compose
compose+=("${options[@]}")

case $command in
    start) "${compose[@]}" up --detach && wait_until_healthy ;;
    stop) "${compose[@]}" stop ;;
    restart) "${compose[@]}" stop && "${compose[@]}" up --detach && wait_until_healthy ;;
    status) "${compose[@]}" ps && show_health ;;
    logs) "${compose[@]}" logs --follow --tail 200 "$@" ;;
    health) show_health ;;
    clean)
        confirm_clean "$@"
        "${compose[@]}" --profile lb --profile monitoring down --volumes --remove-orphans
        ;;
esac

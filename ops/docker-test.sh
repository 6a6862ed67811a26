#!/usr/bin/env bash
# Proves the deployment guide on a real container engine: builds the image, starts the cluster of
# docker-compose.yml, walks through the guide's steps, and removes everything, DATA INCLUDED. `make
# docker-test` calls it.
#
#   ops/docker-test.sh [--image-limit MB] [--no-build]
#
# It needs the guide's ports and refuses where containers of a cluster exist already. COMPOSE and
# DOCKER name the programs, as for docker-deploy.sh and docker-build.sh.
#
# Exit codes: 0 every step holds; 1 one does not, or no engine is here; 2 wrong use.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'docker-test: FAILED: %s\n' "$*" >&2
    exit 1
}

step() { printf -- '-- %s\n' "$*"; }

image_limit=
build=1
while [ $# -gt 0 ]; do
    case $1 in
        --image-limit) image_limit=${2:?--image-limit needs MB}; shift 2 ;;
        --no-build) build=; shift ;;
        --help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
        *) printf 'docker-test: unknown option %s; see --help\n' "$1" >&2; exit 2 ;;
    esac
done

engine=${DOCKER:-$(command -v docker || command -v podman || true)}
[ -n "$engine" ] || fail "neither docker nor podman is installed"
if [ -z "${COMPOSE:-}" ]; then
    if "$engine" compose version >/dev/null 2>&1; then COMPOSE="$engine compose"; else COMPOSE=$(basename "$engine")-compose; fi
fi
export COMPOSE DOCKER=$engine
read -ra compose <<<"$COMPOSE"
work=$(mktemp -d)
four=docker-compose.four.yml

clean() {
    local code=$?
    [ "$code" -eq 0 ] || "$engine" ps --all || true
    "$engine" rm --force synap-standalone >/dev/null 2>&1 || true
    [ ! -e "$four" ] || "${compose[@]}" --file "$four" down --volumes >/dev/null 2>&1 || true
    ops/docker-deploy.sh clean --yes >/dev/null 2>&1 || true
    "$engine" volume rm synap-standalone-data >/dev/null 2>&1 || true
    rm -rf "$work" "$four"
    exit "$code"
}

port_of() {
    case $1 in master) echo 15500 ;; *) echo "155${1#replica}0" ;; esac
}

# get NODE PATH: the body; fails where the status is no 2xx.
get() { curl --silent --show-error --fail --max-time 10 "http://127.0.0.1:$(port_of "$1")$2"; }

set_key() {
    curl --silent --show-error --fail --max-time 10 --header 'Content-Type: application/json' \
        --data "{\"key\":\"$2\",\"value\":\"$3\"}" "http://127.0.0.1:$(port_of "$1")/kv/set" >/dev/null
}

# within SECONDS WHAT COMMAND…: the command comes true in time.
within() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what"
        sleep 0.5
    done
}

holds() { [ "$(get "$1" "/kv/get/$2")" = "\"$3\"" ]; }
is_healthy() { [ "$("$engine" inspect --format '{{.State.Health.Status}}' "synap-$1")" = healthy ]; }

everywhere() {
    local node
    for node in master replica1 replica2 replica3; do
        within 30 "$node has not $1 = $2" holds "$node" "$1" "$2"
    done
}

if "$engine" ps --all --format '{{.Names}}' | grep -qE '^synap-(master|replica[0-9])$'; then
    fail "a cluster's containers exist; ops/docker-deploy.sh clean removes them and their data"
fi
trap clean EXIT

if [ -n "$build" ]; then
    step "build"
    ops/docker-build.sh
fi

step "the image: user, read-only root, nothing that compiles, size"
[ "$("$engine" run --rm --entrypoint id synap:latest -u)" = 10001 ] || fail "the image runs as another user than 10001"
"$engine" run --rm --read-only --tmpfs /tmp --entrypoint synap synap:latest version || fail "read-only root"
"$engine" run --rm --entrypoint sh synap:latest -c '! command -v gcc cc c++ make' || fail "a compiler is in the image"
size=$(($("$engine" image inspect --format '{{.Size}}' synap:latest) / 1000000))
base=$(($("$engine" image inspect --format '{{.Size}}' "python:${PYTHON_VERSION:-3.13}-slim-bookworm") / 1000000)) || base=0
echo "   $size MB, $((size - base)) MB of them above its base"
[ -z "$image_limit" ] || [ "$size" -le "$image_limit" ] || fail "the image has $size MB, more than $image_limit"

step "start"
ops/docker-deploy.sh start

step "the guide's steps on the four ports"
set_key master user:100 Alice
everywhere user:100 Alice
code=$(curl --silent --output "$work/refusal" --write-out '%{http_code}' --header 'Content-Type: application/json' \
    --data '{"key":"user:101","value":"Eve"}' http://127.0.0.1:15510/kv/set)
[ "$code" = 421 ] || fail "a write at a replica got $code: $(cat "$work/refusal")"
ops/docker-deploy.sh health

step "the guide's paths"
"$engine" exec synap-master test -e /data/wal/synap.wal || fail "no /data/wal/synap.wal"
curl --silent --fail --request POST http://127.0.0.1:15500/snapshot >/dev/null
"$engine" exec synap-master sh -c 'ls /data/snapshots/snapshot_*.bin' || fail "no /data/snapshots/snapshot_*.bin"

step "kill -9 of the master's container, and its restart"
set_key master before-kill kept
"$engine" kill --signal KILL synap-master >/dev/null
holds replica1 user:100 Alice || fail "a replica does not serve while the master is away"
[ "$("$engine" inspect --format '{{.State.Running}}' synap-master)" = true ] || "$engine" start synap-master >/dev/null
within 60 "the master does not come back" is_healthy master
everywhere before-kill kept
set_key master after-kill kept
everywhere after-kill kept

step "down and up keep the data"
"${compose[@]}" down
ops/docker-deploy.sh start
everywhere after-kill kept

step "a fourth replica joins"
awk -v six="$(sed -n '/^  replica3:/,/^$/p' docker-compose.yml | sed 's/replica3/replica4/g;s/15530/15540/')" \
    '/^  haproxy:/ {print six; print ""} {print} /^  replica3_data:/ {print "  replica4_data:"}' docker-compose.yml >"$four"
"${compose[@]}" --file "$four" up --detach
within 60 "the fourth replica does not get the data" holds replica4 after-kill kept
"${compose[@]}" --file "$four" rm --stop --force replica4 2>/dev/null || "$engine" rm --force synap-replica4 >/dev/null
rm -f "$four"

step "a standalone node's data over a fresh master's"
ops/docker-deploy.sh clean --yes
"$engine" run --detach --name synap-standalone --publish 127.0.0.1:15590:15500 --volume synap-standalone-data:/data synap:latest >/dev/null
within 60 "the standalone node does not come up" curl --silent --fail http://127.0.0.1:15590/health
for number in 1 2 3; do
    curl --silent --fail --header 'Content-Type: application/json' --data "{\"key\":\"old:$number\",\"value\":\"kept\"}" \
        http://127.0.0.1:15590/kv/set >/dev/null
done
"$engine" exec synap-standalone tar -C /data -cf - . >"$work/standalone.tar"
"$engine" stop synap-standalone >/dev/null
ops/docker-deploy.sh start
"$engine" exec --interactive synap-master tar -C /data -xf - <"$work/standalone.tar"
"$engine" restart synap-master >/dev/null
within 90 "the master does not come back with the copied data" is_healthy master
for number in 1 2 3; do everywhere "old:$number" kept; done

step "backup of a volume by tar, and its restore"
"$engine" exec synap-master tar -C /data -cf - . >"$work/master.tar"
set_key master behind-the-backup gone
ops/docker-deploy.sh clean --yes
"${compose[@]}" up --no-start
"$engine" run --rm --interactive --user 10001 --volume synap_master_data:/data --entrypoint tar synap:latest -C /data -xf - <"$work/master.tar" ||
    fail "the archive can't be unpacked"
ops/docker-deploy.sh start
everywhere old:3 kept
! get master /kv/get/behind-the-backup >/dev/null 2>&1 || fail "the restored node holds what came behind the backup"

step "all of it holds"

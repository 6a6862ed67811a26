#!/usr/bin/env bash
# Makes a data directory of the newest backup in a folder, or of one file.
#
#   ops/restore.sh FOLDER|FILE DATA_DIR [options of `synap restore`]
#   ops/restore.sh --keep N FOLDER|FILE DATA_DIR …
#
# With --keep, a DATA_DIR that holds something is moved to DATA_DIR.before-<UTC time> first, and all
# but the N newest of those are removed when the restore has worked; where it fails, the directory is
# moved back. Refused while a node runs on DATA_DIR. Without --keep, DATA_DIR must be empty.
#
# Exit codes: 0 done; 1 nothing was restored and DATA_DIR is as it was; 2 wrong use; 75 another run
# is still at work on DATA_DIR.
set -euo pipefail
umask 077

fail() {
    printf 'restore: %s\n' "$2" >&2
    exit "$1"
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

keep=
case ${1:-} in
    --help | -h) usage; exit 0 ;;
    --keep)
        keep=${2:-}
        [[ $keep =~ ^[1-9][0-9]*$ ]] || fail 2 "--keep '$keep' is not a whole number from 1"
        shift 2
        ;;
esac
[ $# -ge 2 ] || fail 2 "name a backup, or a folder of backups, and the data directory; see --help"
source=$1
data_dir=${2%/}
shift 2

here=$(cd "$(dirname "$0")/.." && pwd)
synap=${SYNAP:-$here/.venv/bin/synap}
[ -x "$synap" ] || synap=$(command -v synap) || fail 1 "no synap program; set SYNAP to its path"

shopt -s nullglob
if [ -d "$source" ]; then
    held=("$source"/synap-*.backup)
    [ ${#held[@]} -gt 0 ] || fail 1 "there is no synap-*.backup in $source"
    source=${held[-1]}
fi

mkdir -p "$(dirname "$data_dir")"
exec 9>"$(dirname "$data_dir")/.$(basename "$data_dir").restore.lock"
flock --nonblock 9 || fail 75 "another restore to $data_dir is still running"

before=
if [ -n "$keep" ] && [ -d "$data_dir" ] && [ -n "$(ls -A "$data_dir")" ]; then
    if [ -e "$data_dir/node.lock" ]; then
        flock --nonblock "$data_dir/node.lock" true || fail 1 "a node runs on $data_dir; stop it first"
    fi
    before=$data_dir.before-$(date -u +%Y%m%dT%H%M%SZ)
    [ ! -e "$before" ] || fail 1 "$before exists"
    mv -T -- "$data_dir" "$before"
fi

if ! "$synap" restore --from "$source" --data-dir "$data_dir" "$@" 9>&-; then
    if [ -n "$before" ]; then
        mv -T -- "$before" "$data_dir"
    fi
    fail 1 "$source was not restored"
fi

if [ -n "$before" ]; then
    echo "what was there before is in $before"
    old=("$data_dir".before-*)
    for ((i = 0; i < ${#old[@]} - keep; i++)); do
        rm -rf -- "${old[i]}"
        echo "removed ${old[i]}"
    done
fi

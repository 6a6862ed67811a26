#!/usr/bin/env bash
# Takes a verified backup of a node into a folder and removes the oldest ones; for cron.
#
#   ops/backup.sh [--url URL] [--keep N] FOLDER
#
# The file is FOLDER/synap-<UTC time>.backup. Old ones go only after the new one was restored and
# compared, and never the newest. SYNAP names the program, else .venv's or the one in PATH is taken.
#
# Exit codes: 0 done; 1 no backup was taken, nothing was removed; 2 wrong use; 75 another run is
# still at work on FOLDER.
set -euo pipefail
umask 077

url=http://127.0.0.1:15500
keep=7

fail() {
    printf 'backup: %s\n' "$2" >&2
    exit "$1"
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

folder=
while [ $# -gt 0 ]; do
    case $1 in
        --url) url=${2:?--url needs a value}; shift 2 ;;
        --keep) keep=${2:?--keep needs a number}; shift 2 ;;
        --help | -h) usage; exit 0 ;;
        -*) fail 2 "unknown option $1; see --help" ;;
        *) [ -z "$folder" ] || fail 2 "one folder, not also $1"; folder=$1; shift ;;
    esac
done
[ -n "$folder" ] || fail 2 "name the folder for the backups; see --help"
[[ $keep =~ ^[1-9][0-9]*$ ]] || fail 2 "--keep $keep is not a whole number from 1"

here=$(cd "$(dirname "$0")/.." && pwd)
synap=${SYNAP:-$here/.venv/bin/synap}
[ -x "$synap" ] || synap=$(command -v synap) || fail 1 "no synap program; set SYNAP to its path"

mkdir -p "$folder" || fail 1 "can't make $folder"
exec 9>"$folder/.lock"
flock --nonblock 9 || fail 75 "another backup into $folder is still running"

# What an earlier run left behind that was killed; nobody else writes here.
rm -rf "$folder"/synap-*.backup.part "$folder"/.synap-*.backup.verify-*

file=$folder/synap-$(date -u +%Y%m%dT%H%M%SZ).backup
"$synap" backup --url "$url" --output "$file" 9>&- || fail 1 "no backup of $url was taken"

shopt -s nullglob
held=("$folder"/synap-*.backup)
for ((i = 0; i < ${#held[@]} - keep; i++)); do
    rm -f -- "${held[i]}"
    echo "removed ${held[i]}"
done

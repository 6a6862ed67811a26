#!/usr/bin/env bash
# Makes what docker-compose.yml and ops/docker-compose.secure.yml keep secret, in the folder `secrets`.
#
#   ops/generate-secrets.sh [--directory DIR] [--name NAME]...
#
#   --directory DIR  where to (default: secrets)
#   --name NAME      another host name or address for the certificate; may be repeated
#
# What exists is kept, so that a second run adds what is missing. Made are passwords, a self-signed
# certificate to try TLS with (90 days; put one of your authority's in its place), a CurveZMQ key for
# each node, the nodes' configuration with the public ones in it, and replication_secret, for nodes that are
# to share one secret instead (replication.secret; docker-compose.yml alone makes its own).
#
# Every secret has mode 0600 and belongs to the user that reads it in its container: 10001 is Synap's
# and HAProxy's, 472 is Grafana's. That takes root: where you are not, a container of the image
# synap:latest does it, and reading a password then takes sudo. SYNAP names the program that makes keys
# (default: `synap`, else the image), DOCKER the engine (default: docker, else podman).
#
# Exit codes: 0 all is there; 1 something could not be made; 2 wrong use.
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."

fail() {
    printf 'generate-secrets: %s\n' "$2" >&2
    exit "$1"
}

nodes=(master replica1 replica2 replica3)
node_user=10001
grafana_user=472
directory=secrets
names=DNS:synap,DNS:localhost,IP:127.0.0.1
while [ $# -gt 0 ]; do
    case $1 in
        --directory) directory=${2:?--directory needs a folder}; shift 2 ;;
        --name)
            case ${2:?--name needs a host name or an address} in
                *[!0-9.]*) names+=,DNS:$2 ;;
                *) names+=,IP:$2 ;;
            esac
            shift 2
            ;;
        --help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
        *) fail 2 "unknown option $1; see --help" ;;
    esac
done
for node in "${nodes[@]}"; do names+=,DNS:synap-$node; done
engine=${DOCKER:-$(command -v docker || command -v podman || true)}
command -v openssl >/dev/null || fail 1 "openssl is not installed"

mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
work=$(mktemp -d "$directory/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT

in_image() { "$engine" run --rm --user 0 --network none --volume "$work:/made" "$@"; }

# keygen FILE: makes a secret key and prints the public one.
keygen() {
    if [ -n "${SYNAP:-}" ] || command -v synap >/dev/null; then
        "${SYNAP:-synap}" keygen --secret-key-file "$work/$1" 2>"$work/log" || fail 1 "$(cat "$work/log")"
    elif [ -n "$engine" ]; then
        in_image synap:latest keygen --secret-key-file "/made/$1" 2>"$work/log" || fail 1 "$(cat "$work/log")"
    else
        fail 1 "keys need synap or a container engine; neither is installed"
    fi
}

# own USER FILE...: gives files in $work to a user of a container.
own() {
    local user=$1
    shift
    if [ "$(id -u)" -eq 0 ]; then
        (cd "$work" && chown "$user:$user" "$@")
    elif [ -n "$engine" ] && in_image --cap-add CHOWN --workdir /made --entrypoint chown synap:latest "$user:$user" "$@" 2>/dev/null; then
        :
    else
        printf 'generate-secrets: yours still; do: sudo chown %s:%s %s\n' "$user" "$user" "${*/#/$directory/}" >&2
    fi
}

# put FILE...: moves what is finished to its place.
put() {
    local file
    for file in "$@"; do
        mv --no-clobber "$work/$file" "$directory/$file"
        echo "made $directory/$file"
    done
}

# password FILE USER
password() {
    if [ -e "$directory/$1" ]; then
        echo "kept $directory/$1"
        return
    fi
    openssl rand -hex 24 >"$work/$1"
    own "$2" "$1"
    put "$1"
}

certificate() {
    if [ -e "$directory/tls.pem" ]; then
        echo "kept $directory/tls.pem"
        return
    fi
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "/CN=synap" \
        -addext "subjectAltName=$names" -keyout "$work/tls.pem.key" -out "$work/tls.pem" 2>"$work/log" ||
        fail 1 "$(cat "$work/log")"
    chmod 644 "$work/tls.pem"
    own "$node_user" tls.pem tls.pem.key
    put tls.pem tls.pem.key
}

# All nodes' keys are made together: each is on the list of the others.
curve() {
    local node role lists='' keys=()
    if [ -e "$directory/config-master.yml" ]; then
        echo "kept $directory/config-master.yml, config-replica.yml and curve_*.key"
        return
    fi
    for node in "${nodes[@]}"; do
        [ ! -e "$directory/curve_$node.key" ] || fail 1 "$directory/curve_$node.key is from a run that broke off; remove it"
        keys+=("curve_$node.key")
        lists+="      - '$(keygen "curve_$node.key")'  # $node"$'\n'
    done
    for role in master replica; do
        # The section `replication` gets one more part; the rest of the file stays as it is.
        LISTS=$lists awk '{ print }
            /^replication:/ {
                print "  curve:"
                print "    enabled: true"
                print "    secret_key_file: /run/secrets/curve_key"
                print "    server_key:                       # of the nodes that may be master: all of them"
                printf "%s", ENVIRON["LISTS"]
                print "    allowed_keys:                     # of the nodes that may replicate"
                printf "%s", ENVIRON["LISTS"]
            }' "ops/config-$role.yml" >"$work/config-$role.yml"
        chmod 644 "$work/config-$role.yml"
    done
    own "$node_user" "${keys[@]}"
    put "${keys[@]}" config-replica.yml config-master.yml
}

password grafana_admin_password "$grafana_user"
password root_password "$node_user"
password replication_secret "$node_user"
certificate
curve

#!/usr/bin/env bash
# Builds the image of a node: synap:VERSION and synap:latest.
#
#   ops/docker-build.sh [VERSION]
#
# VERSION is the project's own where it is not given. PYTHON_VERSION chooses the base (3.13),
# PYTHON_DIGEST (sha256:…) pins it by its content, and DOCKER names the program: docker, else podman
# where only that is installed. Without PYTHON_DIGEST, what the tag names now is asked of the registry
# (docker buildx imagetools inspect) and built on; the image's labels tell base and digest. Where nobody
# tells it, the image is built on the tag, and with SYNAP_RELEASE=1 not at all. Where the program can keep them, the image gets a list of what is in
# it (SBOM) and of how it was built (provenance): Docker with buildx and the image store of
# containerd. SYNAP_ATTEST=1 refuses to build without.
#
# Exit codes: 0 built; 1 not built; 2 wrong use.
set -euo pipefail

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

fail() {
    printf 'docker-build: %s\n' "$2" >&2
    exit "$1"
}

case ${1:-} in
    --help | -h) usage; exit 0 ;;
    -*) fail 2 "unknown option $1; see --help" ;;
esac
[ $# -le 1 ] || fail 2 "one version, not also $2"

cd "$(dirname "$0")/.."
version=${1:-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' synap/__init__.py)}
[[ $version =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || fail 2 "'$version' is no tag of an image: letters, digits, and _ . - inside"

engine=${DOCKER:-$(command -v docker || command -v podman || true)}
[ -n "$engine" ] || fail 1 "neither docker nor podman is installed"

revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if [ "$revision" != unknown ] && [ -n "$(git status --porcelain 2>/dev/null)" ]; then
    revision=$revision-modified
fi

base=python:${PYTHON_VERSION:-3.13}-slim-bookworm
digest=${PYTHON_DIGEST:-}
if [ -z "$digest" ]; then
    digest=$("$engine" buildx imagetools inspect --format '{{.Manifest.Digest}}' "$base" 2>/dev/null || true)
fi
if [ -n "$digest" ]; then
    [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || fail 1 "'$digest' is no digest of $base: sha256: and 64 digits"
elif [ -n "${SYNAP_RELEASE:-}" ]; then
    fail 1 "nobody tells the digest of $base, and a release is built on none but that: set PYTHON_DIGEST"
else
    echo "docker-build: on what $base names here, whose digest nobody tells" >&2
fi

# HEALTHCHECK is no part of the OCI format; podman keeps it only in Docker's.
format=()
case $(basename "$engine") in podman*) format=(--format docker) ;; esac

# Docker's older image store can't hold what is attested beside an image.
build=(build)
if "$engine" buildx version >/dev/null 2>&1 &&
    "$engine" info --format '{{.DriverStatus}}' 2>/dev/null | grep -q containerd; then
    build=(buildx build --load --sbom=true --provenance=mode=max)
elif [ -n "${SYNAP_ATTEST:-}" ]; then
    fail 1 "$engine can't keep SBOM and provenance: it wants buildx, and the image store of containerd"
else
    echo "docker-build: without SBOM and provenance, which $engine can't keep here" >&2
fi

"$engine" "${build[@]}" "${format[@]}" \
    --build-arg "PYTHON_VERSION=${PYTHON_VERSION:-3.13}" \
    --build-arg "PYTHON_DIGEST=${digest:+@$digest}" \
    --build-arg "BASE_NAME=docker.io/library/$base" \
    --build-arg "BASE_DIGEST=$digest" \
    --build-arg "VERSION=$version" \
    --build-arg "REVISION=$revision" \
    --build-arg "CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
    --tag "synap:$version" --tag synap:latest . || fail 1 "the image was not built; the reason is above"
echo "built synap:$version and synap:latest"

# The image of a node: `synap serve` as PID 1, as a user without rights, data in /data.
# ops/docker-build.sh builds it and sets the labels' values.
ARG PYTHON_VERSION=3.13
# The base by its content, as @sha256:…; empty takes what the tag names now.
ARG PYTHON_DIGEST=

FROM python:${PYTHON_VERSION}-slim-bookworm${PYTHON_DIGEST} AS build
WORKDIR /src
COPY ops/image-requirements.txt ./
# Wheels only, each by its hash: where one is missing for this platform, pip says so here.
RUN pip download --no-cache-dir --disable-pip-version-check --quiet \
        --no-deps --only-binary :all: --require-hashes --requirement image-requirements.txt --dest /wheels
COPY pyproject.toml gunicorn.conf.py README.md LICENSE ./
COPY synap synap
COPY workers workers
# The build backend is one of these wheels too.
RUN pip wheel --no-cache-dir --disable-pip-version-check --quiet \
        --no-index --find-links /wheels --no-deps --wheel-dir /wheels .
# Some of the wheels carry their compilers' symbols: a quarter of the image.
# hadolint ignore=DL3008,DL3013
RUN apt-get update \
    && apt-get install --yes --quiet --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/* \
    && python -m venv --without-pip /opt/synap \
    && pip --python /opt/synap/bin/python install --no-cache-dir --disable-pip-version-check --quiet \
        --no-index --find-links /wheels synap \
    && find /opt/synap -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +

FROM python:${PYTHON_VERSION}-slim-bookworm${PYTHON_DIGEST}
# A new volume takes owner and mode of /data: a container under any other user with group 0 can write
# to it too. What the node makes in it is its own user's alone.
RUN groupadd --gid 10001 synap \
    && useradd --uid 10001 --gid synap --no-create-home --home-dir /data --shell /usr/sbin/nologin synap \
    && install --directory --owner synap --group root --mode 0770 /data \
    && install --directory --owner synap --group root --mode 0770 /cluster \
    && install --directory /app
COPY --from=build /opt/synap /opt/synap
COPY ops/config-standalone.yml /app/config.yml

ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=unknown
ARG BASE_NAME=unknown
ARG BASE_DIGEST=
LABEL org.opencontainers.image.title="Synap" \
      org.opencontainers.image.description="A small replicated key-value cluster with an HTTP/JSON API" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_NAME}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"

# Sockets and shared memory go below SYNAP_RUN_DIR: with a read-only root, mount a tmpfs on /tmp.
ENV PATH=/opt/synap/bin:$PATH \
    SYNAP_CONFIG=/app/config.yml \
    SYNAP_DATA_DIR=/data \
    SYNAP_RUN_DIR=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 15500 15501 15502
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-P", "-m", "workers.health"]
ENTRYPOINT ["synap"]
CMD ["serve"]

# Nautilus in images. Targets: lite (the appliance with its embedded forge), job (what jobs run in by default
# where no image is named). docs/how-to/build-the-images.md has the commands.
#
# No "syntax" line: it would be pulled from a registry. The base is any Debian 13; to make it without one:
#   mmdebstrap --variant=minbase trixie | docker import - debian:trixie-slim
ARG BASE=debian:trixie-slim

FROM ${BASE} AS base
# A mirror of Debian's packages (http://HOST/debian), where deb.debian.org is out of reach.
ARG APT_MIRROR=
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    set -eu; \
    rm -f /etc/apt/apt.conf.d/docker-clean; \
    if [ -n "$APT_MIRROR" ]; then echo "deb $APT_MIRROR trixie main" > /etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*; fi; \
    apt-get update -qq; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates git python3 python3-venv tini >/dev/null

# Everything from PyPI, by the locks, hashes checked. Build secret "ca": a bundle that the package index needs.
FROM base AS python
ARG PIP_INDEX_URL=
COPY requirements /opt/nautilus/requirements
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache \
    set -eu; \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi; \
    if [ -n "$PIP_INDEX_URL" ]; then export PIP_INDEX_URL UV_DEFAULT_INDEX="$PIP_INDEX_URL"; else unset PIP_INDEX_URL; fi; \
    export UV_LINK_MODE=copy; \
    python3 -m venv /tmp/uv; \
    /tmp/uv/bin/pip install -q --require-hashes -r /opt/nautilus/requirements/uv.lock; \
    for part in venv:runtime jobs:jobs; do \
        python3 -m venv --without-pip "/opt/nautilus/${part%%:*}"; \
        /tmp/uv/bin/uv pip install -q --require-hashes --compile-bytecode --python "/opt/nautilus/${part%%:*}/bin/python" \
            -r "/opt/nautilus/requirements/${part#*:}.lock"; \
    done

FROM base AS job
COPY --from=python /opt/nautilus/jobs /opt/nautilus/jobs
ENV PATH=/opt/nautilus/jobs/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LABEL org.opencontainers.image.title="Nautilus job environment" \
      org.opencontainers.image.description="Python, scikit-learn and the MLflow client, for jobs that name no image"

FROM base AS lite
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    set -eu; \
    mkdir -p /etc/postgresql-common; \
    echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf; \
    apt-get update -qq; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        docker-registry fcgiwrap git-lfs nginx openssh-server postgresql-17 restic >/dev/null; \
    # Each appliance makes host keys of its own, on its volume.
    rm -f /etc/ssh/ssh_host_*; \
    # 124 MB that only PostgreSQL's JIT would load, which the appliance switches off.
    rm -f /usr/lib/x86_64-linux-gnu/libLLVM* /usr/lib/postgresql/17/lib/llvmjit*; \
    useradd --system --uid 990 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nautilus; \
    useradd --system --uid 991 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nautilus-runner; \
    useradd --system --uid 992 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nautilus-job; \
    mkdir -p /var/opt/nautilus /var/opt/gitlab /etc/gitlab; \
    ln -s nautilus /var/opt/mlreef
COPY --from=python /opt/nautilus/venv /opt/nautilus/venv
COPY --from=python /opt/nautilus/jobs /opt/nautilus/jobs
COPY supervisord.conf pyproject.toml /opt/nautilus/
COPY requirements /opt/nautilus/requirements
COPY migrations /opt/nautilus/migrations
COPY services /opt/nautilus/services
COPY gateway /opt/nautilus/gateway
COPY runner /opt/nautilus/runner
COPY image/entrypoint image/nautilus image/nautilus-runner /usr/local/bin/
RUN /opt/nautilus/venv/bin/python -m compileall -q /opt/nautilus/services /opt/nautilus/gateway /opt/nautilus/runner
ENV NAUTILUS_HOME=/var/opt/nautilus \
    NAUTILUS_IN_IMAGE=1 \
    LANG=C.UTF-8 \
    PATH=/opt/nautilus/jobs/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# No VOLUME line: it would make an anonymous volume beside one that is mounted under the other name,
# /var/opt/mlreef, and which of the two is seen would be chance.
EXPOSE 80 8081 10080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/local/bin/nautilus", "healthcheck"]
LABEL org.opencontainers.image.title="Nautilus" \
      org.opencontainers.image.description="The on-prem ML platform in one container, lite edition (embedded forge)"
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["boot"]

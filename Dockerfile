# Nautilus in images. Targets: lite (the appliance with its embedded forge), job (what jobs run in where no image is
# named), runner (the runner alone), full (the appliance with GitLab CE). docs/how-to/install.md has the commands.
#
# No "syntax" line: it would be pulled from a registry. The base is any Debian 13; image/make-base makes one from
# Debian's packages, where no registry is at hand.
ARG BASE=debian:trixie-slim
# What a build writes itself gets this time, so that the same packages and sources give the same bytes.
ARG SOURCE_DATE_EPOCH=1767225600

# ---- what every image of ours has: Python 3.13, git with LFS, CA certificates, an init
FROM ${BASE} AS base
ARG SOURCE_DATE_EPOCH
# A mirror of Debian's packages (http://HOST/debian), where deb.debian.org is out of reach.
ARG APT_MIRROR=
RUN --mount=type=bind,source=image/parts,target=/mnt \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    set -eu; start=$(date +%s); \
    cp /mnt/dpkg.cfg /etc/dpkg/dpkg.cfg.d/nautilus; \
    rm -f /etc/apt/apt.conf.d/docker-clean; \
    if [ -n "$APT_MIRROR" ]; then echo "deb $APT_MIRROR trixie main" > /etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*; fi; \
    /mnt/layer install ca-certificates git git-lfs python3 python3-venv tini; \
    # As git-lfs writes it, but for the order of the lines, which is chance there.
    printf '[filter "lfs"]\n\t%s\n\t%s\n\t%s\n\t%s\n' 'clean = git-lfs clean -- %f' 'smudge = git-lfs smudge -- %f' \
        'process = git-lfs filter-process' 'required = true' > /etc/gitconfig; \
    /mnt/layer settle "$start"
ENV LANG=C.UTF-8

# ---- everything from PyPI, by the locks, hashes checked. Build secret "ca": a bundle that the package index needs.
FROM base AS python
ARG SOURCE_DATE_EPOCH
ARG PIP_INDEX_URL=
COPY requirements/uv.lock requirements/runtime.lock requirements/jobs.lock /tmp/locks/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache --mount=type=bind,source=image/parts,target=/mnt \
    set -eu; \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi; \
    if [ -n "$PIP_INDEX_URL" ]; then export PIP_INDEX_URL UV_DEFAULT_INDEX="$PIP_INDEX_URL"; else unset PIP_INDEX_URL; fi; \
    export UV_LINK_MODE=copy PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0; \
    python3 -m venv /tmp/uv; \
    /tmp/uv/bin/pip install -q --require-hashes -r /tmp/locks/uv.lock; \
    for part in venv:runtime jobs:jobs; do \
        at="/opt/nautilus/${part%%:*}"; \
        python3 -m venv --without-pip "$at"; \
        /tmp/uv/bin/uv pip install -q --require-hashes --python "$at/bin/python" -r "/tmp/locks/${part#*:}.lock"; \
        find "$at/lib" -path '*/site-packages/*' -type d -name tests -prune -exec rm -rf {} +; \
        find "$at/bin" -type d -name __pycache__ -prune -exec rm -rf {} +; \
        python3 -m compileall -q --invalidation-mode unchecked-hash -s "$(echo "$at"/lib/python3*/site-packages)" "$at"/lib/python3*/site-packages; \
    done; \
    python3 /mnt/share-files.py /opt/nautilus/venv /opt/nautilus/jobs; \
    find /opt/nautilus -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# ---- our own sources, compiled; they change most, so they come last
FROM base AS sources
ARG SOURCE_DATE_EPOCH
COPY supervisord.conf pyproject.toml /out/opt/nautilus/
COPY requirements /out/opt/nautilus/requirements
COPY migrations /out/opt/nautilus/migrations
COPY gateway /out/opt/nautilus/gateway
COPY runner /out/opt/nautilus/runner
COPY services /out/opt/nautilus/services
COPY image/bin /out/usr/local/bin
RUN PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash -s /out \
        /out/opt/nautilus/services /out/opt/nautilus/gateway /out/opt/nautilus/runner && \
    find /out -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# ---- what jobs run in where no image is named and the appliance is not itself an image
FROM base AS job
COPY --from=python /opt/nautilus/jobs /opt/nautilus/jobs
ENV PATH=/opt/nautilus/jobs/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Nautilus job environment" \
      org.opencontainers.image.description="Python, scikit-learn and the MLflow client, for jobs that name no image" \
      org.opencontainers.image.revision="$REVISION"

# ---- the appliance
FROM base AS lite
ARG SOURCE_DATE_EPOCH
RUN --mount=type=bind,source=image/parts,target=/mnt \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    set -eu; start=$(date +%s); \
    mkdir -p /etc/postgresql-common; \
    echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf; \
    # 150 MB that only PostgreSQL's JIT would load, which the appliance switches off.
    printf 'path-exclude=%s\n' '/usr/lib/*/libLLVM*' '/usr/lib/*/libz3.so*' '/usr/lib/postgresql/17/lib/llvmjit*' \
        '/usr/lib/postgresql/17/lib/bitcode/*' >> /etc/dpkg/dpkg.cfg.d/nautilus; \
    # The lone tools do where fcgiwrap and sshd ask for systemd.
    /mnt/layer install docker-registry fcgiwrap nginx openssh-server postgresql-17 restic \
        systemd-standalone-sysusers systemd-standalone-tmpfiles; \
    # Each appliance makes host keys and certificates of its own, on its volume.
    rm -f /etc/ssh/ssh_host_* /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem; \
    useradd --system --uid 990 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nautilus; \
    useradd --system --uid 991 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nautilus-runner; \
    useradd --system --uid 992 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nautilus-job; \
    # Whom clone addresses name; no password fits "*" (services/nautilus/appliance/sshd.py makes it elsewhere).
    useradd --non-unique --uid 990 --gid 990 --no-create-home --home-dir / --no-log-init --shell /bin/sh --password '*' git; \
    mkdir -p /var/opt/nautilus /var/opt/gitlab /etc/gitlab /etc/nautilus /usr/share/nautilus /run/sshd; \
    # A new volume takes its owner from here: so `--user 990:990` can write to it.
    chown nautilus:nautilus /var/opt/nautilus; \
    ln -s nautilus /var/opt/mlreef; \
    /mnt/layer settle "$start"
COPY --from=python /opt/nautilus /opt/nautilus
COPY --from=sources /out /
ARG VERSION=0.1.0
RUN --mount=type=bind,source=image/parts,target=/mnt \
    start=$(date +%s); \
    PYTHONDONTWRITEBYTECODE=1 python3 /mnt/sbom.py nautilus "$VERSION" /opt/nautilus/venv /opt/nautilus/jobs > /usr/share/nautilus/sbom.json && \
    /mnt/layer settle "$start"
ENV NAUTILUS_HOME=/var/opt/nautilus \
    NAUTILUS_IN_IMAGE=1 \
    PATH=/opt/nautilus/jobs/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# No VOLUME line: it would make an anonymous volume beside one that is mounted under the other name,
# /var/opt/mlreef, and which of the two is seen would be chance.
EXPOSE 22 80 443 5050 6000 8081 10080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 CMD ["/usr/local/bin/nautilus", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["boot"]
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="Nautilus" \
      org.opencontainers.image.description="The on-prem ML platform in one container, lite edition (embedded forge)" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.base.name="debian:trixie-slim"

# ---- the appliance with the tools of its tests: `tests/` is mounted, arguments are pytest's
FROM base AS test-python
ARG PIP_INDEX_URL=
COPY requirements/uv.lock requirements/dev.lock /tmp/locks/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache \
    set -eu; \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi; \
    if [ -n "$PIP_INDEX_URL" ]; then export PIP_INDEX_URL UV_DEFAULT_INDEX="$PIP_INDEX_URL"; else unset PIP_INDEX_URL; fi; \
    python3 -m venv /tmp/uv; \
    /tmp/uv/bin/pip install -q --require-hashes -r /tmp/locks/uv.lock; \
    python3 -m venv --without-pip /opt/nautilus/dev; \
    UV_LINK_MODE=copy /tmp/uv/bin/uv pip install -q --require-hashes --python /opt/nautilus/dev/bin/python -r /tmp/locks/dev.lock

FROM lite AS test
COPY --from=test-python /opt/nautilus/dev /opt/nautilus/dev
WORKDIR /opt/nautilus
ENV PYTHONPATH=/opt/nautilus/services:/opt/nautilus/gateway:/opt/nautilus/runner PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/nautilus/dev/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
CMD ["tests/unit"]

# ---- the runner alone, for further machines: `docker run` of docs/how-to/add-a-runner.md
FROM base AS runner-python
ARG SOURCE_DATE_EPOCH
ARG PIP_INDEX_URL=
COPY requirements/uv.lock requirements/runner.lock /tmp/locks/
COPY runner /out/opt/nautilus/runner
COPY image/bin/nautilus-runner image/runner/entrypoint /out/usr/local/bin/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache \
    set -eu; \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi; \
    if [ -n "$PIP_INDEX_URL" ]; then export PIP_INDEX_URL UV_DEFAULT_INDEX="$PIP_INDEX_URL"; else unset PIP_INDEX_URL; fi; \
    export UV_LINK_MODE=copy PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0; \
    python3 -m venv /tmp/uv; \
    /tmp/uv/bin/pip install -q --require-hashes -r /tmp/locks/uv.lock; \
    python3 -m venv --without-pip /opt/nautilus/venv; \
    /tmp/uv/bin/uv pip install -q --require-hashes --python /opt/nautilus/venv/bin/python -r /tmp/locks/runner.lock; \
    mkdir -p /out/opt/nautilus/venv; cp -a /opt/nautilus/venv/. /out/opt/nautilus/venv/; \
    python3 -m compileall -q --invalidation-mode unchecked-hash -s /out /out/opt/nautilus; \
    find /out -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

FROM base AS runner
ARG SOURCE_DATE_EPOCH
COPY --from=runner-python /out /
ARG VERSION=0.1.0
RUN --mount=type=bind,source=image/parts,target=/mnt \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    set -eu; start=$(date +%s); \
    # git reaches private repositories by ssh.
    /mnt/layer install openssh-client; \
    useradd --system --uid 992 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nautilus-job; \
    mkdir -p /etc/nautilus/ca /usr/share/nautilus; \
    PYTHONDONTWRITEBYTECODE=1 python3 /mnt/sbom.py nautilus-runner "$VERSION" /opt/nautilus/venv > /usr/share/nautilus/sbom.json; \
    /mnt/layer settle "$start"
# As root: the Docker socket that it needs is as good as root, and its group differs from machine to machine.
ENV NAUTILUS_RUNNER_CONFIG=/var/lib/nautilus-runner/config.toml \
    NAUTILUS_RUNNER_EXECUTOR=docker \
    NAUTILUS_RUNNER_IMAGE=python:3.13-slim \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /var/lib/nautilus-runner
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=300s --retries=3 CMD ["/usr/local/bin/nautilus-runner", "status"]
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/entrypoint"]
CMD ["run"]
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Nautilus runner" \
      org.opencontainers.image.description="Takes jobs from a Nautilus or GitLab server and runs them on this machine" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# ---- the appliance with GitLab CE by its own package, in place of the embedded forge (docs/how-to/full-edition.md).
# The package: the one .deb in image/packages, else GITLAB_DEB_URL, else GitLab's repository.
FROM lite AS full
ARG SOURCE_DATE_EPOCH
ARG GITLAB_VERSION=19.3.0-ce.0
ARG GITLAB_DEB_URL=
ARG GITLAB_DEB_SHA256=
RUN --mount=type=secret,id=ca --mount=type=bind,source=image,target=/mnt \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    set -eu; start=$(date +%s); \
    /mnt/parts/gitlab "$GITLAB_VERSION" "$GITLAB_DEB_URL" "$GITLAB_DEB_SHA256"; \
    /mnt/parts/layer settle "$start"
ENV NAUTILUS_EDITION=full
# GitLab's first start makes its database and takes minutes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=1200s --retries=3 CMD ["/usr/local/bin/nautilus", "healthcheck"]
LABEL org.opencontainers.image.description="The on-prem ML platform in one container, full edition (GitLab CE)" \
      org.nautilus.gitlab.version="$GITLAB_VERSION"

# ---- what a plain `docker build .` makes
FROM lite

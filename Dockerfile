# syntax=docker/dockerfile:1
# A digest pins the base: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

# The wheel is pure Python: built once, on the builder's own platform, for all others.
FROM --platform=${BUILDPLATFORM} ${PYTHON_IMAGE} AS wheel
WORKDIR /src
RUN python3 -m venv /tools
COPY . .
# Packages from elsewhere: --secret id=pip.conf,src=... --secret id=ca.pem,src=...
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/etc/ssl/certs/ca-certificates.crt \
    PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
    /tools/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

# The compiled decoder, for each platform; Debian keeps a newer Rust than its own for web browsers.
FROM ${PYTHON_IMAGE} AS native
ARG RUST_PACKAGE=cargo-web
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ${RUST_PACKAGE} gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* && python3 -m venv /tools
WORKDIR /src
COPY constraints.txt .
COPY native native
# Crates from elsewhere: --secret id=cargo.toml,src=...
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=cargo.toml,target=/root/.cargo/config.toml \
    --mount=type=secret,id=ca.pem,target=/etc/ssl/certs/ca-certificates.crt \
    PIP_BUILD_CONSTRAINT=constraints.txt PIP_CONSTRAINT=constraints.txt \
    /tools/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /dist ./native

FROM ${PYTHON_IMAGE} AS packages
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/stepstream
COPY deploy/image/requirements.txt /requirements.txt
COPY --from=wheel /dist /dist
COPY --from=native /dist /dist
# Each file has one of the hashes that are written down, whatever index it comes from.
# Then 53 MB that a consumer never loads are removed: LiteRT's accelerators for graphics and neural
# processors with their tools, numpy's own tests, and setuptools, which grpcio-tools needs to build
# packages only.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/etc/ssl/certs/ca-certificates.crt \
    /tools/bin/pip --python /opt/stepstream/bin/python3 install --no-cache-dir \
      --only-binary :all: --require-hashes --requirement /requirements.txt \
    && /tools/bin/pip --python /opt/stepstream/bin/python3 install --no-cache-dir \
      --no-index --no-deps /dist/*.whl \
    && /tools/bin/pip --python /opt/stepstream/bin/python3 uninstall --yes setuptools \
    && rm -rf /opt/stepstream/lib/python3*/site-packages/ai_edge_litert/libLiteRtWebGpuAccelerator.so \
      /opt/stepstream/lib/python3*/site-packages/ai_edge_litert/vendors \
      /opt/stepstream/lib/python3*/site-packages/ai_edge_litert/tools/apply_plugin_main \
    && find /opt/stepstream/lib/python3*/site-packages/numpy -type d -name tests -prune -exec rm -r {} +

FROM ${PYTHON_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="stepstream" \
      org.opencontainers.image.description="Footstep events from accelerometer and gyroscope readings, over Kafka" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-4.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=packages /opt/stepstream /opt/stepstream
COPY deploy/image/healthcheck.py /opt/stepstream/healthcheck.py
ENV PATH=/opt/stepstream/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Nothing is written there. Mount recordings for `detect` and `simulate` there.
WORKDIR /work
# A number, so that Kubernetes can see that it isn't root.
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python3", "/opt/stepstream/healthcheck.py"]
ENTRYPOINT ["stepstream"]
CMD ["run"]

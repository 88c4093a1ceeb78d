# The exporter, small and without privileges: docker build --tag metastudio-tts-exporter .
#
# It runs as any numeric uid, writes nothing outside /var/lib/metastudio-tts-exporter, and needs no shell:
#   docker run --read-only --cap-drop ALL --publish 10047:10047 --volume books:/var/lib/metastudio-tts-exporter \
#     --volume ./exporter.yaml:/etc/metastudio-tts-exporter/exporter.yaml:ro metastudio-tts-exporter

# A tag moves with updates of Debian and Python. To build on exactly one base, give its digest, as your engine shows it:
#   docker build --build-arg BASE=python:3.13-slim@sha256:... --tag metastudio-tts-exporter .
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
# What is installed is what the lock files say, byte for byte (`make lock`).
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/build && python -m venv /opt/exporter \
    && /opt/build/bin/python -m pip install --no-cache-dir --require-hashes --requirement requirements-build.lock \
    && /opt/exporter/bin/python -m pip install --no-cache-dir --no-compile --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE exporter.yaml exporter.schema.json ./
COPY grafana grafana
COPY prometheus prometheus
COPY exporter exporter
# Compiled with a hash that is never checked: a read-only root could not keep what is compiled later, and no file
# time has to survive the copy below. pip is of no use at run time.
RUN /opt/build/bin/python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /opt/wheel . \
    && /opt/exporter/bin/python -m pip install --no-index --no-deps --no-compile /opt/wheel/*.whl \
    && /opt/exporter/bin/python -m pip uninstall --yes --quiet pip setuptools \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/exporter

FROM ${BASE}
ENV PATH=/opt/exporter/bin:$PATH \
    HOME=/var/lib/metastudio-tts-exporter \
    TMPDIR=/var/lib/metastudio-tts-exporter
COPY --from=build /opt/exporter /opt/exporter
# Importing every module once shows that nothing is missing, and compiles what it uses of the standard library,
# which the base image ships as source only.
RUN python -c "import importlib, pkgutil, exporter; [importlib.import_module(m.name) \
        for m in pkgutil.walk_packages(exporter.__path__, 'exporter.') if not m.name.endswith('.__main__')]" \
    && install --directory --owner=65532 --group=65532 --mode=0750 /var/lib/metastudio-tts-exporter \
    && install --directory /etc/metastudio-tts-exporter
ENV PYTHONDONTWRITEBYTECODE=1

USER 65532:65532
WORKDIR /var/lib/metastudio-tts-exporter
VOLUME /var/lib/metastudio-tts-exporter
EXPOSE 10047
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s CMD ["metastudio-tts-exporter", "healthcheck"]
ENTRYPOINT ["metastudio-tts-exporter"]
CMD ["--config.file=/etc/metastudio-tts-exporter/exporter.yaml"]

# Last, because they differ with every build and would spoil the layers above.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ENV METASTUDIO_EXPORTER_REVISION=$REVISION
LABEL org.opencontainers.image.title="metastudio-tts-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the text-to-speech jobs of Huawei Cloud MetaStudio" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"

# syntax=docker/dockerfile:1
# The images of Sluice. compose.yaml builds the targets `export`, `ingest` and `consumer`.
#
# Each holds one Python, the packages of its extra and Sluice itself; nothing is compiled. Packages are installed
# before Sluice, from pyproject.toml alone, so that a change of the code installs no package again.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS requirements
WORKDIR /requirements
COPY pyproject.toml .
RUN python <<'END'
import pathlib
import tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for extra, packages in extras.items():
    pathlib.Path(extra + ".txt").write_text("\n".join([*extras["base"], *packages, ""]))
END

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY consumers consumers
COPY export export
COPY ingest ingest
COPY results results
COPY sluice sluice
COPY stream stream
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --no-deps --wheel-dir /wheel .

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    SLUICE_MODELS_DIR=/models
# A folder's owner becomes that of the volume which is mounted there: export writes models, consumers read them
# and write TensorRT engines;
# stream.acl writes Redis's users.
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp sluice \
    && install --directory --owner=sluice /models /engines /users/redis /users/ingest /users/consumer /users/webhooks \
        /users/admin

FROM base AS export
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=requirements,source=/requirements,target=/requirements \
    pip install --requirement /requirements/export.txt --requirement /requirements/heif.txt
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps /wheel/*.whl
# Keras keeps the weights that it downloads here.
ENV KERAS_HOME=/tmp/keras
USER sluice
ENTRYPOINT ["python", "-m", "export"]
CMD ["--output", "/models"]

FROM base AS ingest
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=requirements,source=/requirements,target=/requirements \
    pip install --requirement /requirements/ingest.txt --requirement /requirements/grpc.txt \
        --requirement /requirements/heif.txt --requirement /requirements/webhooks.txt --requirement /requirements/traces.txt
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps /wheel/*.whl
USER sluice
EXPOSE 5000 5001
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
    CMD ["python", "-m", "ingest.health"]
ENTRYPOINT ["python", "-m", "ingest"]

FROM base AS consumer
# "consumers gpu" adds the CUDA libraries, as compose.gpu.yaml asks; "consumers gpu tensorrt" adds TensorRT as well.
ARG EXTRAS=consumers
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=requirements,source=/requirements,target=/requirements \
    for extra in ${EXTRAS} traces; do set -- "$@" --requirement "/requirements/${extra}.txt"; done; pip install "$@"
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps /wheel/*.whl
USER sluice
ENTRYPOINT ["python", "-m", "consumers"]

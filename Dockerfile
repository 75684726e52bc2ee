# syntax=docker/dockerfile:1
# CPU:   docker build -t skeleton .
# CUDA:  docker build -t skeleton:cuda --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 .
# Run:   docker run --rm --user "$(id -u)" -v "$PWD/prepared:/data" -v "$PWD/work_dir:/app/work_dir" skeleton \
#            --config config/NW-UCLA/ctrgcn.yaml --phase train        (CUDA: docker run --gpus all ...)
# The PyTorch of PyPI brings its own CUDA libraries. For a small CPU image, give the index of the CPU builds that
# pytorch.org names: --build-arg PIP_EXTRA_INDEX_URL=...
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS base
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3008
RUN if ! command -v python3 > /dev/null; then \
        apt-get update; \
        apt-get install -y --no-install-recommends python3 python3-venv; \
        rm -rf /var/lib/apt/lists/*; \
    fi

FROM base AS packages
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /build
COPY requirements.txt constraints.txt ./
COPY requirements requirements
RUN python3 -m venv /opt/venv; \
    /opt/venv/bin/pip install --no-cache-dir -c constraints.txt -r requirements.txt -r requirements/export.txt

FROM base
RUN useradd --create-home --uid 10001 skeleton
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY main.py ensemble.py pyproject.toml README.md LICENSE ./
COPY benchmarks benchmarks
COPY config config
COPY data data
COPY feeders feeders
COPY graph graph
COPY model model
COPY torchlight torchlight
RUN mkdir work_dir /data; chown skeleton work_dir /data
# any user may run it: caches of libraries are in /tmp
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 \
    SKELETON_DATA=/data
USER skeleton
ENTRYPOINT ["python3", "main.py"]
CMD ["--help"]

# syntax=docker/dockerfile:1
# The collector as an image.      docker build -t brain-events .
# With its own Postgres and Valkey: docker build -t brain-events:embedded --build-arg EXTRA=embedded .
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md hatch_build.py ./
COPY sdk sdk
COPY collector collector
COPY migrations migrations
COPY dashboard dashboard
COPY docs docs
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /dist

FROM python:${PYTHON}-slim
ARG EXTRA=collector
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip install --no-cache-dir "$(echo /dist/*.whl)[${EXTRA}]" \
    && useradd --system --uid 10001 --home-dir /var/lib/brain-events --create-home brain-events
USER brain-events
WORKDIR /var/lib/brain-events
ENV BRAIN_COLLECTOR_HOST=0.0.0.0 \
    BRAIN_COLLECTOR_PORT=8001 \
    BRAIN_COLLECTOR_DATA_DIR=/var/lib/brain-events/data \
    PYTHONUNBUFFERED=1
EXPOSE 8001
STOPSIGNAL SIGTERM
# http.client ignores the proxies that the environment names.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('localhost:' + os.environ['BRAIN_COLLECTOR_PORT'], timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["brain-events"]
CMD ["serve"]

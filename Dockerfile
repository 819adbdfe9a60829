# One image for every process: `docker run protools run SERVICE KIND`.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/protools
COPY requirements-run.txt ./
RUN /opt/protools/bin/pip install --no-cache-dir --require-hashes -r requirements-run.txt
COPY pyproject.toml ./
COPY src src
RUN /opt/protools/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/protools protools \
    && install -d -o protools -g protools -m 0700 /var/lib/protools
COPY --from=build /opt/protools /opt/protools
ENV PATH=/opt/protools/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PROTOOLS_HOME=/var/lib/protools \
    PROTOOLS_SYSTEM=system:SYSTEM \
    BIND_HOST=0.0.0.0 \
    LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/protools
ENTRYPOINT ["protools"]
CMD ["--help"]

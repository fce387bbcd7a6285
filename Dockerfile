# One image for the server (`jincai serve`, the default), the worker (`jincai worker`) and operations (`jincai migrate`).
FROM python:3.11-slim-bookworm AS build
WORKDIR /srv/jincai
RUN python -m venv --without-pip .venv
COPY requirements.lock ./
RUN pip --no-cache-dir --python .venv/bin/python install --require-hashes --only-binary :all: --requirement requirements.lock
COPY pyproject.toml LICENSE alembic.ini ./
COPY migrations migrations
COPY app app
RUN pip --no-cache-dir --python .venv/bin/python install --no-deps --no-build-isolation --editable . \
    && .venv/bin/python -m compileall -q app migrations

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10001 jincai \
    && useradd --system --uid 10001 --gid jincai --home-dir /srv/jincai --shell /usr/sbin/nologin jincai \
    && install --directory --owner jincai --group jincai /srv/jincai/var
WORKDIR /srv/jincai
COPY --from=build /srv/jincai /srv/jincai
ENV PATH=/srv/jincai/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    JINCAI_ENV=prod \
    JINCAI_HOST=0.0.0.0 \
    JINCAI_WORKER=external
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('JINCAI_PORT', '8000')), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
CMD ["jincai", "serve"]

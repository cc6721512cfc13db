# The example project with celery-mysqllock installed; docker-compose.yml runs its services.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS wheels
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY celery_mysqllock celery_mysqllock
RUN pip wheel --no-cache-dir --wheel-dir /wheels . 'flower>=2'

FROM python:${PYTHON}-slim
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index /wheels/*.whl \
    && useradd --create-home --uid 10001 --shell /usr/sbin/nologin example
WORKDIR /home/example
COPY example_proj example_proj
USER 10001
ENV PYTHONUNBUFFERED=1
CMD ["celery", "--app", "example_proj.app", "worker", "--loglevel", "INFO"]

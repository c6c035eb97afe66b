FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY featurestore featurestore
RUN pip install --no-cache-dir --constraint constraints.txt '.[definitions]' \
    && useradd --create-home featurestore \
    && install --directory --owner featurestore /state /repo

USER featurestore
WORKDIR /repo
ENTRYPOINT ["featurestore"]
CMD ["--help"]

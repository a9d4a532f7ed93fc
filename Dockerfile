# docker build -t hccr . && docker run --rm -p 127.0.0.1:8000:8000 hccr
FROM python:3.11-slim
WORKDIR /build
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY hccr_tf hccr_tf
RUN pip install --no-cache-dir '.[serve]' && rm -r /build/* && useradd --create-home hccr
USER hccr
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
CMD ["hccr", "serve", "--host", "0.0.0.0"]

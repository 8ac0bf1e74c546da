# The page of s2ld, and all its commands, in a container; docs/matching.md tells how to build and run it.
FROM python:3.12-slim

# the folder of download.pytorch.org/whl that torch comes from: cpu, or of a CUDA version, as cu128
ARG TORCH=cpu
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/${TORCH}

COPY pyproject.toml README.md LICENSE /opt/s2ld/
COPY configs /opt/s2ld/configs
COPY weights /opt/s2ld/weights
COPY src /opt/s2ld/src
RUN pip install --no-cache-dir "/opt/s2ld[all]"

# whoever runs it with a number of their own (--user) writes to the same home, where the caches are
RUN useradd --create-home s2ld && chmod 777 /home/s2ld && mkdir /work && chown s2ld /work
ENV HOME=/home/s2ld
USER s2ld
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["s2ld"]
CMD ["web", "--host", "0.0.0.0"]

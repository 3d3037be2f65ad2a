# One image for coordinator, clients and operator; the command says which.

# Wheels to be used before any index has a say, empty by default:
# docker build --build-context wheels=DIRECTORY .
FROM scratch AS wheels

FROM python:3.11-slim
# Where torch's CPU build comes from: PyPI's own for Linux is the CUDA build, ten times the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG PIP_ARGS=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
COPY constraints.txt .
# By itself, so that a change of the code does not fetch it again.
RUN --mount=type=bind,from=wheels,target=/wheels \
    pip install $PIP_ARGS --find-links /wheels --extra-index-url "$TORCH_INDEX" --constraint constraints.txt torch
COPY . .
RUN --mount=type=bind,from=wheels,target=/wheels \
    pip install $PIP_ARGS --find-links /wheels --constraint constraints.txt ".[all]"

RUN useradd --create-home fedelta && install -d -o fedelta /state /shards /out
USER fedelta
WORKDIR /src/examples/digits
ENV PYTHONUNBUFFERED=1
CMD ["fedelta", "--help"]

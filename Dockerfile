# batchyard serve: the control plane on a Postgres of yours.
#
#   docker build -t batchyard .
#   docker run -e DATABASE_URL=postgres://... -v batchyard:/var/lib/batchyard -p 8443:8443 batchyard
#
# A container without privileges cannot separate nodes from the server, so that this one makes none: run `batchyard serve` on the
# hosts that have nodes, with the same DATABASE_URL and the same keys folder. Mount a file of settings of your own over
# /etc/batchyard/batchyard.toml for anything else.

FROM node:20.20.2-bookworm-slim AS page
WORKDIR /page
COPY page/package.json page/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY page ./
RUN npm run --silent check && npm run --silent build

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock build.rs ./
COPY .sqlx .sqlx
COPY migrations migrations
COPY src src
COPY --from=page /page/dist page/dist
# Tests and benchmarks are named in Cargo.toml; the build looks for the files and reads nothing of them.
RUN mkdir -p tests/suite tests/sim tests/bench \
    && touch tests/suite/main.rs tests/sim/main.rs tests/bench/main.rs
ENV SQLX_OFFLINE=true
RUN cargo build --release --locked --bin batchyard && strip target/release/batchyard

FROM debian:12.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/batchyard --shell /usr/sbin/nologin batchyard \
    && install -d -o batchyard -g batchyard -m 0700 /var/lib/batchyard /etc/batchyard
COPY --from=build /source/target/release/batchyard /usr/local/bin/batchyard
COPY --chown=batchyard examples/container.toml /etc/batchyard/batchyard.toml
USER 10001
VOLUME /var/lib/batchyard
EXPOSE 8443
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["curl", "-fsS", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["batchyard"]
CMD ["serve", "--config", "/etc/batchyard/batchyard.toml"]

# The image for those who have a container engine: docker build -t ratssaal . (`make image` makes the same layout without one)
FROM docker.io/library/rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates nodejs npm && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make build && scripts/image --root /image

FROM scratch
COPY --from=build /image /
LABEL org.opencontainers.image.title="Ratssaal" \
      org.opencontainers.image.description="Video-conferencing for cities and counties, on their own machines" \
      org.opencontainers.image.licenses="EUPL-1.2" \
      org.opencontainers.image.source="https://github.com/ratssaal/ratssaal"
ENV PATH=/usr/bin
USER 65532:65532
WORKDIR /var/lib/ratssaal
ENTRYPOINT ["/usr/bin/ratssaal"]
CMD ["serve"]

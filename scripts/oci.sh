# Makes OCI image archives of a folder, without a container engine. The same folder gives the same bytes. Sourced.
#
# Format: OCI image specification 1.1 (image-layout, manifest, config), as `ctr image import`, `podman load`, `skopeo copy
# oci-archive:` and `docker load` (25 and newer) read it.

# tar_reproducibly <folder>: its content, sorted, owned by root, without times, to standard output.
tar_reproducibly() {
  tar --create --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory="$1" .
}

# add_blob <layout> <file>: moves the file among the blobs; prints its digest.
add_blob() {
  local digest
  digest=$(sha256sum "$2" | cut -d' ' -f1)
  mv "$2" "$1/blobs/sha256/$digest"
  echo "sha256:$digest"
}

# oci_architecture: this machine's, by Go's names, as images use them.
oci_architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
  esac
}

# oci_archive <out.tar> <name:tag> <root folder> <JSON of the image's config> [gzip]: with gzip the layer is compressed.
oci_archive() {
  local out=$1 name=$2 folder=$3 config=$4 compress=${5:-} layout layer contents type=application/vnd.oci.image.layer.v1.tar
  local image manifest size layer_size manifest_size architecture
  architecture=$(oci_architecture)
  layout=$(mktemp -d)
  mkdir -p "$layout/blobs/sha256"
  tar_reproducibly "$folder" >"$layout/layer"
  contents=sha256:$(sha256sum "$layout/layer" | cut -d' ' -f1)
  if [ "$compress" = gzip ]; then
    type=$type+gzip
    gzip -n "$layout/layer"
    mv "$layout/layer.gz" "$layout/layer"
  fi
  layer_size=$(stat -c %s "$layout/layer")
  layer=$(add_blob "$layout" "$layout/layer")
  printf '{"architecture":"%s","config":%s,"created":"1970-01-01T00:00:00Z","os":"linux","rootfs":{"diff_ids":["%s"],"type":"layers"}}' \
    "$architecture" "$config" "$contents" >"$layout/image"
  size=$(stat -c %s "$layout/image")
  image=$(add_blob "$layout" "$layout/image")
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[{"mediaType":"%s","digest":"%s","size":%s}]}' \
    "$image" "$size" "$type" "$layer" "$layer_size" >"$layout/manifest"
  manifest_size=$(stat -c %s "$layout/manifest")
  manifest=$(add_blob "$layout" "$layout/manifest")
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
    "$manifest" "$manifest_size" "$architecture" "$name" "$name" >"$layout/index.json"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
  tar_reproducibly "$layout" >"$out.half"
  mv "$out.half" "$out"
  rm -rf "$layout"
  echo "$manifest"
}

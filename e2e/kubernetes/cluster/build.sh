# Builds the cluster's programs from their Go modules, static and without C, into the cache folder: Kubernetes (versions in
# go.mod beside this, checked against go.sum), CoreDNS and helm. Sourced by scripts/kubernetes.

coredns_version=v1.15.0
helm_version=v4.2.4
control_plane_programs='kube-apiserver kube-controller-manager kube-scheduler kubectl helm'
node_programs='kubelet kube-proxy coredns'

# programs_folder: where this version's programs are or go; another Go or other versions give another folder.
programs_folder() {
  local key
  key=$({
    cat "$cluster/go.mod" "$cluster/go.sum"
    echo "$coredns_version $helm_version"
    go env GOVERSION GOARCH
  } | sha256sum | cut -c1-16)
  echo "$cache/kubernetes/$key"
}

# missing_programs <folder> <name>...: those that are not there yet.
missing_programs() {
  local folder=$1 name
  shift
  for name in "$@"; do [ -x "$folder/$name" ] || echo "$name"; done
}

# into <folder> <command>...: runs it with GOBIN, the folder programs are built in, and moves them when they are whole.
into() {
  local folder=$1 half
  shift
  half=$(mktemp -d "$folder/.half-XXXXXX")
  if ! CGO_ENABLED=0 GOBIN=$half "$@"; then
    rm -rf "$half"
    fail "building from Go modules failed, see above; without network to a Go module proxy it cannot work the first time"
  fi
  mv "$half"/* "$folder/"
  rmdir "$half"
}

# build_kubernetes <name>...
build_kubernetes() {
  local version major minor flags package=k8s.io/component-base/version
  cd "$cluster"
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  IFS=. read -r major minor _ <<<"${version#v}"
  flags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
  go build -trimpath -ldflags "$flags" -o "$GOBIN/" "${@/#/k8s.io/kubernetes/cmd/}"
}

# build_programs [<name>...]: builds what is missing of them (all by default), and prints the folder. One at a time: who comes
# second waits and finds it done.
build_programs() {
  command -v go >/dev/null || fail "Go is missing; install golang 1.26 or newer (https://go.dev/dl), it builds Kubernetes for the tests"
  local folder missing kubernetes wanted=${*:-$control_plane_programs $node_programs}
  folder=$(programs_folder)
  mkdir -p "$folder"
  # shellcheck disable=SC2086  # names are words
  if [ -n "$(missing_programs "$folder" $wanted)" ]; then
    (
      flock 9
      missing=" $(missing_programs "$folder" $wanted | xargs) "
      kubernetes=$(tr ' ' '\n' <<<"$missing" | grep '^kube') || true
      if [ -n "$kubernetes" ]; then
        say "Building Kubernetes once (6 to 11 minutes on 2 idle cores; kept in $folder)"
        into "$folder" build_kubernetes $kubernetes
      fi
      case $missing in *' coredns '*)
        say 'Building CoreDNS'
        into "$folder" go install -trimpath -ldflags '-s -w' "github.com/coredns/coredns@$coredns_version"
        ;;
      esac
      case $missing in *' helm '*)
        say 'Building helm'
        into "$folder" go install -trimpath -ldflags '-s -w' "helm.sh/helm/v4/cmd/helm@$helm_version"
        ;;
      esac
      # Programs of earlier versions are of no more use; hours old, so that nobody builds or runs them now.
      find "$cache/kubernetes" -mindepth 1 -maxdepth 1 -type d ! -path "$folder" -mmin +600 -exec rm -rf {} +
    ) 9>"$cache/kubernetes/lock" >&2
  fi
  echo "$folder"
}

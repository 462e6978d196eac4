# etcd, API server, controller manager and scheduler, and CoreDNS where there are nodes. Sourced by scripts/kubernetes.

# background <run> <name> <command>...: starts it in a session of its own (it must outlive the terminal), with log and pid file.
background() {
  local run=$1 name=$2
  shift 2
  setsid "$@" >"$run/log/$name" 2>&1 </dev/null 9>&- &
  echo $! >"$run/$name.pid"
}

# kept <run> <name> <command>...: the same, started again when it ends by itself, as the kubelet of a control plane does. A
# scheduler ends when its cache is wrong, for example after the API server was away.
kept() {
  local run=$1 name=$2
  shift 2
  # shellcheck disable=SC2016  # for the inner shell
  background "$run" "$name" bash -c 'trap "kill \$program 2>/dev/null; wait \$program; exit" TERM
    while true; do "$@" & program=$!; wait "$program"; echo "$1 has ended with $?, it is started again"; sleep 1; done' bash "$@"
}

# free_ports <count>: TCP ports nobody listens on, below those the kernel gives to outgoing connections.
free_ports() {
  local wanted=$1 port used
  used=" $(ss -Hltn | awk '{ n = split($4, part, ":"); printf "%s ", part[n] }') "
  while [ "$wanted" -gt 0 ]; do
    port=$((20000 + RANDOM % 12000))
    case $used in *" $port "*) continue ;; esac
    used="$used$port "
    echo "$port"
    wanted=$((wanted - 1))
  done
}

# start_api_server <run> <programs> <address> <port> <prefix>...: also used to start it again after it was ended.
start_api_server() {
  local run=$1 programs=$2 address=$3 port=$4 keys=$1/keys alone=''
  shift 4
  # Bound to loopback it cannot be an endpoint of the Service `kubernetes`.
  [ "$address" != 127.0.0.1 ] || alone=--endpoint-reconciler-type=none
  background "$run" kube-apiserver "$@" "$programs/kube-apiserver" \
    --etcd-servers="http://127.0.0.1:$(cat "$run/etcd-port")" --bind-address="$address" --advertise-address="$address" --secure-port="$port" $alone \
    --tls-cert-file="$keys/apiserver.crt" --tls-private-key-file="$keys/apiserver.key" --client-ca-file="$keys/ca.crt" \
    --service-account-key-file="$keys/accounts.pub" --service-account-signing-key-file="$keys/accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --service-cluster-ip-range="$service_network.0.0/16" --allow-privileged=true \
    --kubelet-client-certificate="$keys/apiserver-kubelet.crt" --kubelet-client-key="$keys/apiserver-kubelet.key" \
    --kubelet-certificate-authority="$keys/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$keys/ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$keys/front-proxy.crt" --proxy-client-key-file="$keys/front-proxy.key" --v=1
}

# await_api_server <run>: returns when it is ready, or says what its log ends with.
await_api_server() {
  local run=$1 tries=0
  until [ "$("$run/kubectl" get --raw /readyz 2>/dev/null)" = ok ]; do
    tries=$((tries + 1))
    if [ $tries -gt 600 ] || ! kill -0 "$(cat "$run/kube-apiserver.pid")" 2>/dev/null; then
      tail -n 5 "$run/log/etcd" "$run/log/kube-apiserver" >&2
      fail "the API server did not become ready; see $run/log"
    fi
    sleep 0.1
  done
}

# control_plane <run> <programs> <address> <port> <etcd's port> <etcd's peer port> <prefix>...
control_plane() {
  local run=$1 programs=$2 address=$3 port=$4 etcd=$5 peers=$6 keys=$1/keys name
  shift 6
  echo "$etcd" >"$run/etcd-port"
  # --unsafe-no-fsync: the data is as short-lived as the test.
  background "$run" etcd "$@" etcd --data-dir "$run/etcd" --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
    --listen-peer-urls "http://127.0.0.1:$peers" --initial-advertise-peer-urls "http://127.0.0.1:$peers" \
    --initial-cluster "default=http://127.0.0.1:$peers" --unsafe-no-fsync --log-level warn
  start_api_server "$run" "$programs" "$address" "$port" "$@"
  await_api_server "$run"
  local common="--leader-elect=false --kube-api-qps=500 --kube-api-burst=1000 --v=1 --bind-address=$address"
  for name in kube-controller-manager kube-scheduler; do
    local own='--secure-port=0' config=$keys/$name.kubeconfig
    [ $name = kube-scheduler ] || own="$own --use-service-account-credentials --service-account-private-key-file=$keys/accounts.key
      --root-ca-file=$keys/ca.crt --cluster-signing-cert-file=$keys/ca.crt --cluster-signing-key-file=$keys/ca.key
      --node-monitor-grace-period=$grace --node-monitor-period=2s"
    # shellcheck disable=SC2086  # options are words; the run's path has no blanks
    kept "$run" $name "$@" "$programs/$name" --kubeconfig="$config" --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" $common $own
  done
}

# dns <run> <programs> <address> <prefix>...: CoreDNS as a process beside the API server; pods ask it at that address.
dns() {
  local run=$1 programs=$2 address=$3
  shift 3
  printf '.:53 {\n bind %s\n hosts %s {\n  fallthrough\n }\n kubernetes cluster.local { kubeconfig %s\n }\n}\n' "$address" "$run/hosts" "$run/keys/admin.kubeconfig" >"$run/Corefile"
  background "$run" coredns "$@" "$programs/coredns" -conf "$run/Corefile"
}

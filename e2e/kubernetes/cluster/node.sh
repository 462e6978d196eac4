# A node: namespaces of its own (network, mounts, pids, host name) with its own containerd, kubelet and kube-proxy. Killing its
# process with -9 is a power cut: everything in it is gone at once; starting it again finds its disk. Sourced by scripts/kubernetes.

# node_cgroups <name>: the node's share of the cgroup tree, /<tag>/<name>, with every controller.
node_cgroups() {
  local name=$1 top=/sys/fs/cgroup folder controller file
  if [ -e $top/cgroup.controllers ]; then
    for folder in $top "$top/$tag" "$top/$tag/$name"; do
      mkdir -p "$folder"
      for controller in $(cat "$folder/cgroup.controllers"); do echo "+$controller" >"$folder/cgroup.subtree_control"; done
    done
  else
    for folder in "$top"/*/; do mkdir -p "$folder$tag/$name"; done
    for folder in "$tag" "$tag/$name"; do
      for file in cpus mems; do cat "$top/cpuset/cpuset.$file" >"$top/cpuset/$folder/cpuset.$file"; done
    done
  fi
}

# write_node_files <run> <number> <name> <address>: the configuration of containerd, its network plugin and the kubelet.
write_node_files() {
  local run=$1 number=$2 name=$3 address=$4 disk=$1/$3 reserved
  mkdir -p "$disk"/{netns,kubelet,pods,containers,containerd,state,cni,etc}
  : >"$disk/etc/resolv.conf"
  cat >"$disk/cni/10-test.conflist" <<END
{"cniVersion": "1.0.0", "name": "test", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false, "ipam":
    {"type": "host-local", "dataDir": "/run/containerd/cni-ipam", "ranges": [[{"subnet": "$pod_network.$number.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
  # restrict_oom_score_adj: a container runtime inside a container may not lower it.
  cat >"$disk/etc/containerd.toml" <<END
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "test.local/pause:1"
  restrict_oom_score_adj = true
  cni = {bin_dir = "/usr/lib/cni", conf_dir = "/etc/cni/net.d"}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    options = {SystemdCgroup = false}
END
  # Each node says it has 3 GiB, whatever the machine has.
  reserved=$(awk '/MemTotal/ { left = int($2 / 1024) - 3072; print (left > 0 ? left : 0) "Mi" }' /proc/meminfo)
  cat >"$disk/etc/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $run/keys/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $run/keys/$name.crt
tlsPrivateKeyFile: $run/keys/$name.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$tag/$name
failCgroupV1: false
failSwapOn: false
healthzBindAddress: 127.0.0.1
clusterDomain: cluster.local
clusterDNS: [$network.1]
resolvConf: $disk/etc/resolv.conf
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 12
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
systemReserved: {memory: $reserved}
END
}

# write_node_init <run> <programs> <number> <name> <address>: what runs as the node's pid 1. It must reap orphaned shims: bash does.
write_node_init() {
  local run=$1 programs=$2 number=$3 name=$4 address=$5 disk=$1/$4
  cat >"$disk/etc/init" <<END
#!/usr/bin/env bash
set -e
mount --make-rshared /
hostname $name
place() { mkdir -p "\$2"; mount --bind "$disk/\$1" "\$2"; }
place kubelet /var/lib/kubelet
mount --make-rshared /var/lib/kubelet
place netns /run/netns
place pods /var/log/pods
place containers /var/log/containers
place containerd /var/lib/containerd
place state /run/containerd
place cni /etc/cni/net.d
# As in real clusters: outside the pod network a pod is its node.
iptables -t nat -C POSTROUTING -s $pod_network.$number.0/24 ! -d $pod_network.0.0/16 -j MASQUERADE 2>/dev/null ||
  iptables -t nat -A POSTROUTING -s $pod_network.$number.0/24 ! -d $pod_network.0.0/16 -j MASQUERADE
containerd -c $disk/etc/containerd.toml >>$run/log/$name-containerd 2>&1 &
for try in {1..300}; do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
for image in $run/images/*.tar; do ctr -n k8s.io images import "\$image" >/dev/null; done
$programs/kubelet --config=$disk/etc/kubelet.yaml --kubeconfig=$run/keys/$name.kubeconfig --hostname-override=$name --node-ip=$address \\
  --v=2 >>$run/log/$name-kubelet 2>&1 &
$programs/kube-proxy --kubeconfig=$run/keys/kube-proxy.kubeconfig --hostname-override=$name --proxy-mode=iptables --cluster-cidr=$pod_network.0.0/16 \\
  --bind-address=$address --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249 \\
  --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 --v=2 >>$run/log/$name-proxy 2>&1 &
wait
END
  chmod +x "$disk/etc/init"
}

# start_node <run> <programs> <number>: also one that was killed.
start_node() {
  local run=$1 programs=$2 number=$3 name=node$3 address=$network.$((10 + $3))
  [ -e "/run/netns/$tag-$name" ] || network_node "$number"
  make_node_keys "$run/keys" "$name" "$address" "$network.1" 6443
  node_cgroups "$name"
  write_node_files "$run" "$number" "$name" "$address"
  write_node_init "$run" "$programs" "$number" "$name" "$address"
  background "$run" "$name" nsenter --net="/run/netns/$tag-$name" unshare --mount --propagation private --uts --pid --fork --mount-proc --kill-child "$run/$name/etc/init"
}

# await_nodes <run> <name>...: returns when they are Ready.
await_nodes() {
  local run=$1 name until=$((SECONDS + 90))
  shift
  for name in "$@"; do
    until "$run/kubectl" get node "$name" --no-headers 2>/dev/null | grep -qw Ready; do
      [ $SECONDS -lt $until ] || fail "node $name is not ready after 90 s; see $run/log/$name-*"
      sleep 0.2
    done
  done
}

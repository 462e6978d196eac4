# The network of a cluster with nodes: namespaces that reach each other and nothing else. Sourced by scripts/kubernetes.
#
#   <tag>-cp       bridge 10.77.0.1/24   control plane and CoreDNS
#   <tag>-nodeN    10.77.0.10+N          nodes; their pods 10.244.N.0/24
#   <tag>-client   10.77.0.50            browsers and load: outside the cluster, reaches nodes and services
#
# The tag comes from the run's path: several clusters at a time do not meet. Nothing is changed in the root namespace.

network=10.77.0
pod_network=10.244
service_network=10.96

within() {
  local namespace=$1
  shift
  nsenter --net="/run/netns/$namespace" "$@"
}

# attach <namespace> <address>: a new namespace with that address on the cluster's bridge.
attach() {
  local namespace=$1 address=$2 port=${1#"$tag"-}
  ip netns add "$namespace"
  within "$namespace" ip link set lo up
  within "$tag-cp" ip link add "v$port" type veth peer name eth0 netns "$namespace"
  within "$tag-cp" ip link set "v$port" master br0 up
  within "$namespace" ip address add "$address/24" dev eth0
  within "$namespace" ip link set eth0 up
  within "$namespace" ip route add default via "$network.1"
}

network_up() {
  ip netns add "$tag-cp"
  within "$tag-cp" ip link set lo up
  within "$tag-cp" ip link add br0 type bridge
  within "$tag-cp" ip address add "$network.1/24" dev br0
  within "$tag-cp" ip link set br0 up
  within "$tag-cp" sysctl -qw net.ipv4.ip_forward=1
  attach "$tag-client" "$network.50"
}

# network_node <number>: the node's namespace, and everybody's way to its pods.
network_node() {
  local number=$1 other
  local namespace=$tag-node$number address=$network.$((10 + number)) pods=$pod_network.$number.0/24
  attach "$namespace" "$address"
  within "$namespace" sysctl -qw net.ipv4.ip_forward=1
  within "$namespace" sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true # not every kernel has br_netfilter
  for other in $(ip netns list | awk '{ print $1 }' | grep "^$tag-" | grep -vx "$namespace"); do
    within "$other" ip route add "$pods" via "$address"
    case $other in "$tag"-node*) within "$namespace" ip route add "$pod_network.${other#"$tag"-node}.0/24" via "$network.$((10 + ${other#"$tag"-node}))" ;; esac
  done
  # Services from outside and for the API server, which calls webhooks: by the first node's kube-proxy.
  [ "$number" != 1 ] || for other in cp client; do within "$tag-$other" ip route add "$service_network.0.0/16" via "$address"; done
}

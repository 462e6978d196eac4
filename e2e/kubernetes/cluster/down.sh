# Ends what `up` started, and undoes namespaces, cgroups and the kernel settings the kubelet changes. Sourced by scripts/kubernetes.

# is_ours <run> <pid>: whether that process belongs to the run (and not to somebody who got the number later).
is_ours() { grep -qaF "$1/" "/proc/$2/cmdline" 2>/dev/null; }

# end_processes <run> <signal> <pid file>...
end_processes() {
  local run=$1 signal=$2 file pid
  shift 2
  for file in "$@"; do
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    if is_ours "$run" "$pid"; then kill "-$signal" "$pid" 2>/dev/null || true; fi
  done
}

any_left() {
  local run=$1 file
  for file in "$run"/*.pid; do
    if [ -e "$file" ] && is_ours "$run" "$(cat "$file")"; then return 0; fi
  done
  return 1
}

# cluster_down <run>: the folders log and images stay.
cluster_down() {
  local run=$1 namespace tries folders
  end_processes "$run" KILL "$run"/node*.pid
  end_processes "$run" TERM "$run"/kube-*.pid "$run"/coredns.pid
  sleep 0.3
  end_processes "$run" TERM "$run"/etcd.pid
  for tries in {1..50}; do
    any_left "$run" || break
    sleep 0.1
  done
  end_processes "$run" KILL "$run"/*.pid
  if [ -e "$run/sysctl" ]; then
    for namespace in $(ip netns list | awk '{ print $1 }' | grep "^$tag-"); do ip netns delete "$namespace"; done
    for tries in {1..50}; do
      folders=$(find "/sys/fs/cgroup/$tag" /sys/fs/cgroup/*/"$tag" -depth -type d 2>/dev/null) || true
      [ -n "$folders" ] || break
      # shellcheck disable=SC2086  # their names have no blanks
      rmdir $folders 2>/dev/null || true
      sleep 0.1
    done
    sysctl -qp "$run/sysctl"
  fi
  rm -rf --one-file-system "$run"/*.pid "$run"/{etcd,etcd-port,keys,kubectl,helm,env,sysctl,hosts,Corefile} "$run"/node*
}

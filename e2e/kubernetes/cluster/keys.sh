# The cluster's certificates and kubeconfigs, made anew for each run, valid for a day. Sourced by scripts/kubernetes.

# certificate <folder> <file> <common name> <organisation> <usage> [<alternative names>]: a key and a certificate of the run's CA.
certificate() {
  local folder=$1 file=$1/$2 subject=${4:+/O=$4}/CN=$3 usage=$5 names=${6:-}
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$file.key" -out "$file.csr" -subj "$subject" 2>/dev/null
  {
    echo 'basicConstraints=CA:FALSE'
    echo 'keyUsage=digitalSignature,keyEncipherment'
    echo "extendedKeyUsage=$usage"
    [ -z "$names" ] || echo "subjectAltName=$names"
  } >"$file.ext"
  openssl x509 -req -in "$file.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial -days 1 -out "$file.crt" -extfile "$file.ext" 2>/dev/null
  rm "$file.csr" "$file.ext"
}

# kubeconfig <folder> <name> <server>: how the bearer of that certificate reaches the API server.
kubeconfig() {
  cat >"$1/$2.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$3", certificate-authority: $1/ca.crt}}]
users: [{name: $2, user: {client-certificate: $1/$2.crt, client-key: $1/$2.key}}]
contexts: [{name: test, context: {cluster: test, user: $2}}]
current-context: test
END
}

# make_keys <folder> <API server's address> <port>: the CA and what the control plane and the administrator need.
make_keys() {
  local folder=$1 address=$2 server=https://$2:$3 name
  local names="IP:127.0.0.1,IP:$address,IP:$service_network.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  mkdir -p -m 700 "$folder"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$folder/ca.key" -out "$folder/ca.crt" -days 1 -subj /CN=ratssaal-test 2>/dev/null
  openssl genrsa -out "$folder/accounts.key" 2048 2>/dev/null
  openssl rsa -in "$folder/accounts.key" -pubout -out "$folder/accounts.pub" 2>/dev/null
  certificate "$folder" apiserver kube-apiserver '' serverAuth "$names"
  certificate "$folder" apiserver-kubelet kube-apiserver-kubelet-client system:masters clientAuth
  certificate "$folder" front-proxy front-proxy '' clientAuth
  certificate "$folder" admin admin system:masters clientAuth
  for name in kube-controller-manager kube-scheduler kube-proxy; do certificate "$folder" $name system:$name '' clientAuth; done
  for name in admin kube-controller-manager kube-scheduler kube-proxy; do kubeconfig "$folder" $name "$server"; done
}

# make_node_keys <folder> <node> <its address> <API server's address> <port>
make_node_keys() {
  [ ! -e "$1/$2.crt" ] || return 0
  certificate "$1" "$2" "system:node:$2" system:nodes clientAuth,serverAuth "DNS:$2,IP:$3"
  kubeconfig "$1" "$2" "https://$4:$5"
}

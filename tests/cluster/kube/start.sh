#!/usr/bin/env bash
# start.sh DIR [PORT]: etcd and kube-apiserver on 127.0.0.1 with all state under DIR; returns once /readyz says ok.
#
# Leaves DIR/kubeconfig (admin), DIR/ca.crt, DIR/pids and DIR/run-kube-apiserver, which a test starts again after it has
# killed the server. PORT is the API server's (16443); etcd takes the next two, the controller manager the one after.
#   KUBE_BIN  the folder that install.sh filled
#   KCM=1     also kube-controller-manager: Deployments get ReplicaSets and Pods, Services get EndpointSlices, what has
#             lost its owner is collected, namespaces really go away
set -euo pipefail

dir=$(mkdir -p "$1" && cd "$1" && pwd)
port=${2:-16443}
: "${KUBE_BIN:?the folder that install.sh filled}"
server=https://127.0.0.1:$port
etcd=http://127.0.0.1:$((port + 1))
peer=http://127.0.0.1:$((port + 2))
# On by default in every version that still counts.
gates=EndpointSliceNodeName=true,EndpointSliceTerminatingCondition=true,IPv6DualStack=true
cd "$dir"
: >pids

# A failed start leaves nothing behind.
undo() {
    [ "$1" -eq 0 ] && return
    tail -n 5 ./*.log >&2
    tac pids | xargs -r kill 2>/dev/null
}
trap 'undo $?' EXIT

# One CA for servers and clients.
certificates() {
    local ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    openssl req -x509 "${ec[@]}" -days 3650 -subj /CN=test-ca -keyout ca.key -out ca.crt
    leaf() { # NAME SUBJECT EXTENSIONS
        openssl req "${ec[@]}" -subj "$2" -keyout "$1.key" -out "$1.csr"
        openssl x509 -req -days 3650 -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial \
            -extfile <(printf '%b' "$3") -out "$1.crt"
    }
    local names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1
    leaf server /CN=kube-apiserver "subjectAltName=$names\nextendedKeyUsage=serverAuth"
    leaf admin /O=system:masters/CN=admin "extendedKeyUsage=clientAuth"
    openssl genrsa -out sa.key 2048
    openssl rsa -in sa.key -pubout -out sa.pub
}
[ -s sa.pub ] || certificates >openssl.log 2>&1

cat >kubeconfig <<K
apiVersion: v1
kind: Config
clusters: [{name: t, cluster: {server: "$server", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: admin, user: {client-certificate-data: $(base64 -w0 admin.crt), client-key-data: $(base64 -w0 admin.key)}}]
contexts: [{name: t, context: {cluster: t, user: admin}}]
current-context: t
K

# A webhook behind a Service is called at its endpoints (aggregator routing), since nobody translates ClusterIPs here.
# Without the controller manager nobody makes ServiceAccounts, and this plugin would refuse every Pod.
plugins=()
[ -n "${KCM:-}" ] || plugins=(--disable-admission-plugins=ServiceAccount)
cat >run-kube-apiserver <<K
#!/bin/sh
cd '$dir' && exec '$KUBE_BIN/kube-apiserver' --etcd-servers $etcd \\
  --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port $port --insecure-port=0 \\
  --tls-cert-file server.crt --tls-private-key-file server.key --client-ca-file ca.crt \\
  --service-account-key-file sa.pub --service-account-signing-key-file sa.key \\
  --service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range 10.96.0.0/16,fd00:96::/112 \\
  --authorization-mode Node,RBAC --allow-privileged --enable-aggregator-routing --feature-gates=$gates ${plugins[*]} >>kube-apiserver.log 2>&1
K
chmod +x run-kube-apiserver

"$KUBE_BIN/etcd" --data-dir etcd --log-level error --listen-client-urls $etcd --advertise-client-urls $etcd \
    --listen-peer-urls $peer --initial-advertise-peer-urls $peer --initial-cluster default=$peer >etcd.log 2>&1 &
echo $! >>pids
./run-kube-apiserver &
echo $! >>pids

ask() { curl -fsS --cacert ca.crt --cert admin.crt --key admin.key "$server$1" >/dev/null 2>&1; }
# until_it_answers PATH: for 240 s at most, since several clusters may start at once; and only while every process lives.
until_it_answers() {
    local pid
    for _ in $(seq 2400); do
        ask "$1" && return
        while read -r pid; do
            kill -0 "$pid" || { echo "process $pid ended" >&2; return 1; }
        done <pids
        sleep 0.1
    done
    echo "$1 does not answer after 240 s" >&2
    return 1
}
until_it_answers /readyz
if [ -n "${KCM:-}" ]; then
    "$KUBE_BIN/kube-controller-manager" --kubeconfig kubeconfig --leader-elect=false --bind-address 127.0.0.1 --port=0 \
        --secure-port $((port + 3)) --service-account-private-key-file sa.key --root-ca-file ca.crt \
        --use-service-account-credentials --feature-gates=$gates --node-monitor-grace-period 3600s \
        --flex-volume-plugin-dir "$dir/flex" >kcm.log 2>&1 &
    echo $! >>pids
    until_it_answers /api/v1/namespaces/default/serviceaccounts/default
fi
echo "KUBECONFIG=$dir/kubeconfig"

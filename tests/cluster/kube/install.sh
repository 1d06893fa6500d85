#!/usr/bin/env bash
# install.sh OUT: a real kube-apiserver and kube-controller-manager (Kubernetes 1.20.2), with etcd and kubectl, in OUT.
#
# An imitation would agree with whatever we believe about Kubernetes; this one does not. It is built from the source
# package of Debian bookworm with Debian's Go 1.19, so that Debian's archive is all that is needed. Nothing is installed
# system-wide: packages are unpacked into a work folder that is removed again. 3 to 5 minutes on two cores, 2 GB while
# it builds, 170 MB in the end.
set -euo pipefail

SUITE=bookworm
GO_VERSION=1.19
COMPONENTS=(kube-apiserver kube-controller-manager)

out=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d)
# Go writes its caches read-only.
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
chmod 755 "$work"
source=$work/gopath/src/k8s.io/kubernetes
say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }

# --------------------------------------------------------------------------------------------- Debian's packages

# The lists of $SUITE, binary and source, apart from the machine's own, which may be of another release.
lists() {
    mkdir -p "$work"/apt/{lists,archives}/partial
    local from=/etc/apt/sources.list.d/debian.sources file
    if [ -f "$from" ]; then
        file=$work/apt/only.sources
        awk -v s="$SUITE" '/^Types:/{print "Types: deb deb-src"; next} /^Suites:/{print "Suites: " s; next} /^$/{exit} {print}' \
            "$from" >"$file"
    else
        file=$work/apt/only.list
        awk -v s="$SUITE" '$1=="deb" && !u {u=$2} END{print "deb " u " " s " main"; print "deb-src " u " " s " main"}' \
            /etc/apt/sources.list >"$file"
    fi
    apt=(apt-get -q -o "Dir::Etc::sourcelist=$file" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$work/apt/lists"
        -o "Dir::Cache=$work/apt" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
    "${apt[@]}" update >"$work/apt/log" 2>&1 || { cat "$work/apt/log"; return 1; }
}

packages() {
    mkdir -p "$work/deb" "$work/root" "$work/gopath/src/k8s.io"
    cd "$work/deb"
    "${apt[@]}" download "golang-$GO_VERSION-go/$SUITE" "golang-$GO_VERSION-src/$SUITE" \
        "golang-github-modern-go-reflect2-dev/$SUITE" "etcd-server/$SUITE" "kubernetes-client/$SUITE" >/dev/null
    local package
    for package in *.deb; do dpkg-deb -x "$package" "$work/root"; done
    cd "$work"
    "${apt[@]}" source --only-source --download-only kubernetes >/dev/null
    grep -q 'Version: 1.20.5+really1.20.2' kubernetes_*.dsc ||
        { echo "Debian's kubernetes is not the version that the changes below are for"; return 1; }
    dpkg-source --no-check -x kubernetes_*.dsc "$source" >/dev/null
}

# ------------------------------------------------------------------------------------------ changes to the source

# What Go 1.18 and later need.
for_this_go() {
    # reflect2 1.0.1 breaks on their maps; Debian's own package has 1.0.2.
    rm -rf vendor/github.com/modern-go/reflect2
    cp -r "$work/root/usr/share/gocode/src/github.com/modern-go/reflect2" vendor/github.com/modern-go/
    # With them the schema validator's test for "no value" takes an empty string for none, and refuses objects that hold
    # one. Later versions of Kubernetes dropped that half of the test.
    sed -i 's/if data == nil || reflect.DeepEqual(reflect.Zero(reflect.TypeOf(data)), reflect.ValueOf(data)) {/if data == nil {/' \
        vendor/k8s.io/kube-openapi/pkg/validation/validate/type.go vendor/github.com/go-openapi/validate/type.go
}

# What /version reports is filled in by a build script that Debian's source lacks.
version() {
    sed -i -e 's/^\tgitMajor string.*/\tgitMajor = "1"/' -e 's/^\tgitMinor string.*/\tgitMinor = "20"/' \
        -e 's/^\tgitVersion  *=.*/\tgitVersion = "v1.20.2"/' staging/src/k8s.io/component-base/version/base.go
}

# ServicePort.protocol has a default in the schema of later versions: server-side apply then takes ports without it.
service_port() {
    sed -i '/^type ServicePort struct/,/^}/ s#^\tProtocol Protocol#\t// +default="TCP"\n&#' staging/src/k8s.io/api/core/v1/types.go
}

# 1.20 serves EndpointSlice as v1beta1 only, and kube-rs speaks v1. v1 is made of v1beta1: the same fields, `topology`
# under its name in v1; `zone` and `hints` are missing.
endpoint_slice() {
    local api=staging/src/k8s.io/api/discovery internal=pkg/apis/discovery
    cp -r $api/v1beta1 $api/v1
    cp -r $internal/v1beta1 $internal/v1
    rm -f $api/v1/BUILD $internal/v1/BUILD $api/v1/zz_generated.prerelease-lifecycle.go $internal/v1/*_test.go
    sed -i 's/json:"topology,omitempty"/json:"deprecatedTopology,omitempty"/' $api/v1/types.go
    sed -i -e 's/\bv1 "k8s.io\/api\/core\/v1"/corev1 "k8s.io\/api\/core\/v1"/' -e 's/\bv1\./corev1./g' $internal/v1/*.go
    sed -i 's/v1beta1/v1/g' $api/v1/*.go $api/v1/generated.proto $internal/v1/*.go
    sed -i -e 's#^\t"k8s.io/kubernetes/pkg/apis/discovery/v1beta1"#\t"k8s.io/kubernetes/pkg/apis/discovery/v1"\n&#' \
        -e 's#^\tutilruntime.Must(v1beta1.AddToScheme(scheme))#\tutilruntime.Must(v1.AddToScheme(scheme))\n&#' \
        -e 's#SetVersionPriority(v1beta1.SchemeGroupVersion#SetVersionPriority(v1.SchemeGroupVersion, v1beta1.SchemeGroupVersion#' \
        $internal/install/install.go
    sed -i -e 's#^\tdiscoveryv1beta1 "k8s.io/api/discovery/v1beta1"#\tdiscoveryv1 "k8s.io/api/discovery/v1"\n&#' \
        -e 's#^\tif apiResourceConfigSource.VersionEnabled(discoveryv1beta1.SchemeGroupVersion) {#\tif apiResourceConfigSource.VersionEnabled(discoveryv1.SchemeGroupVersion) {\n\t\tstorageMap, err := p.v1beta1Storage(apiResourceConfigSource, restOptionsGetter)\n\t\tif err != nil {\n\t\t\treturn genericapiserver.APIGroupInfo{}, false, err\n\t\t}\n\t\tapiGroupInfo.VersionedResourcesStorageMap[discoveryv1.SchemeGroupVersion.Version] = storageMap\n\t}\n\n&#' \
        pkg/registry/discovery/rest/storage_discovery.go
    sed -i -e 's#^\tdiscoveryv1beta1 "k8s.io/api/discovery/v1beta1"#\tdiscoveryv1 "k8s.io/api/discovery/v1"\n&#' \
        -e 's#^\t\tdiscoveryv1beta1.SchemeGroupVersion,#\t\tdiscoveryv1.SchemeGroupVersion,\n&#' pkg/controlplane/instance.go
    sed -i 's#^\t{Group: "discovery.k8s.io", Version: "v1beta1"}:.*#\t{Group: "discovery.k8s.io", Version: "v1"}: {group: 16200, version: 15},\n&#' \
        cmd/kube-apiserver/app/aggregator.go
}

# ----------------------------------------------------------------------------------------------------------- build

go_env() {
    unset GOTOOLDIR
    export GOROOT=$work/root/usr/lib/go-$GO_VERSION GOPATH=$work/gopath GOCACHE=$work/gocache GOTMPDIR=$work
    export GO111MODULE=off GOFLAGS='' GOPROXY=off CGO_ENABLED=0
    go=(nice -n 10 "$GOROOT/bin/go")
}

# The OpenAPI definitions, which the source package leaves to the build.
openapi() {
    "${go[@]}" build -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
    local folders
    folders=$(grep -rl --include='*.go' '^// +k8s:openapi-gen=' pkg vendor/k8s.io/*/ |
        grep -v -e vendor/k8s.io/code-generator -e vendor/k8s.io/sample-apiserver -e '_test\.go' -e /testdata/ |
        xargs -n1 dirname | LC_ALL=C sort -u | sed 's#^#k8s.io/kubernetes/#' | paste -sd,)
    PATH=$GOROOT/bin:$PATH "$work/openapi-gen" --logtostderr -i "$folders" \
        -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
        -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$work/violations"
}

say "package lists"
lists
say "packages"
packages
cd "$source"
for_this_go
version
service_port
endpoint_slice
go_env
say "OpenAPI definitions"
openapi
for component in "${COMPONENTS[@]}"; do
    say "$component"
    "${go[@]}" build -trimpath -tags providerless,dockerless -ldflags '-s -w' -o "$out/$component" "./cmd/$component"
done
install -m755 "$work/root/usr/bin/etcd" "$work/root/usr/bin/kubectl" "$out"
say "done"

#!/usr/bin/env bash
# render.sh HELM OUT: renders the chart into OUT, once with its defaults and once with every option.
#
# `tests/cluster/render.sh HELM charts/sidetrack/rendered` renews what is committed; a test compares the two.
set -euo pipefail
helm=$1
out=$(mkdir -p "$2" && cd "$2" && pwd)
chart=$(cd "$(dirname "$0")/../../charts/sidetrack" && pwd)
for name in default full; do
    # Helm makes other certificates and secrets each time; what is compared has none.
    "$helm" template sidetrack "$chart" --namespace sidetrack --kube-version 1.33.0 -f "$chart/rendered/$name.values.yaml" |
        sed -E 's/^( *(ca\.crt|tls\.crt|tls\.key|caBundle): )LS0t[A-Za-z0-9+\/=]*$/\1Z2VuZXJhdGVk/; s/^( *secrets: )[A-Za-z0-9+\/=]{60,}$/\1Z2VuZXJhdGVk/' >"$out/$name.yaml"
done

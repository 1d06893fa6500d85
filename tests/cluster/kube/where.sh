#!/usr/bin/env bash
# where.sh kube | helm: prints the folder in the cache for what the tests run; it changes with what fills it.
set -euo pipefail
cd "$(dirname "$0")"
case $1 in
kube) from=install.sh ;;
helm) from=../helm/package-lock.json ;;
*) exit 64 ;;
esac
cache=${SIDETRACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sidetrack}
printf '%s/%s-%s\n' "$cache" "$1" "$(sha256sum <"$from" | cut -c1-16)"

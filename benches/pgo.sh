#!/bin/sh
# Builds target/dist/sidetrack as it is shipped: with profile-guided optimisation. A binary that counts how often each of its
# paths is taken serves the load of `sidetrack-train`, and what it counted tells the compiler which paths to keep short.
#
#   benches/pgo.sh [OPTIONS OF CARGO BUILD]      e.g. --locked --features kubernetes
#
# Takes three builds, about 14 minutes on 2 CPUs, and gains what docs/performance.md says. Needs Rust from rustup, for
# `llvm-profdata` of the compiler's own version; nothing else, so that it runs in the image of the Dockerfile too.
set -eu
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
merge=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
[ -x "$merge" ] || rustup component add llvm-tools

target=${CARGO_TARGET_DIR:-$PWD/target}
folder=$target/pgo
# Counts of another source are none of this one.
rm -rf "$folder/counts"

# build FLAG [OPTIONS]: with an explicit target, so that the flag is not for build scripts and macros.
build() {
    flag=$1
    shift
    RUSTFLAGS="${RUSTFLAGS:-} $flag" CARGO_INCREMENTAL=0 \
        cargo build --release -p sidetrack --target "$host" --target-dir "$folder" "$@"
}
binary=$folder/$host/release/sidetrack

cargo build --release -p sidetrack-tests --bin sidetrack-train
build "-Cprofile-generate=$folder/counts" "$@"
"$target/release/sidetrack-train" "$binary"
"$merge" merge -o "$folder/counts/all" "$folder"/counts/*.profraw
build "-Cprofile-use=$folder/counts/all" "$@"

mkdir -p "$target/dist"
cp "$binary" "$target/dist/sidetrack"

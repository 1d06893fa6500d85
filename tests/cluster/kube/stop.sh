#!/usr/bin/env bash
# stop.sh DIR: ends what start.sh started under DIR, last started first, and removes DIR.
# At once: nothing in it is worth a clean shutdown, and an API server that has lost its etcd may never finish one.
set -u
tac "$1/pids" 2>/dev/null | xargs -r kill -9 2>/dev/null
rm -rf "$1"

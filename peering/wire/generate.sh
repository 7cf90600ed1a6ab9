#!/bin/bash
# Generates the Go of this folder's .proto files. The plugins are Go modules, in the versions below; protoc comes with
# Debian's protobuf-compiler. The same files give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
protoc=3.21.12
grpc_plugin=v1.6.2

found=$(protoc --version 2>/dev/null || true)
if [ "$found" != "libprotoc $protoc" ]; then
  echo "protoc: found ${found:-none}: want libprotoc $protoc, as in Debian 12: apt-get install protobuf-compiler" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
plugins=$work/bin
# All that is needed of the one well-known type: its fields, and where its Go is. Debian has it in a package of its own.
mkdir -p "$work/google/protobuf"
cat > "$work/google/protobuf/any.proto" <<'PROTO'
syntax = "proto3";
package google.protobuf;
option go_package = "google.golang.org/protobuf/types/known/anypb";
message Any {
  string type_url = 1;
  bytes value = 2;
}
PROTO
# The one of the messages is part of the module that they need at run time, so that go.mod gives its version.
go build -o "$plugins/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
GOBIN=$plugins go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$grpc_plugin"
PATH=$plugins:$PATH protoc -I . -I "$work" --go_out=. --go_opt=paths=source_relative \
  --go-grpc_out=. --go-grpc_opt=paths=source_relative peering/wire/*.proto

package bootstrap

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// An Endpoint is where something listens on this machine: a unix socket (Path) or an address. The zero value is nowhere.
type Endpoint struct {
	Path string // absolute; the socket is made with mode 0600
	Host string // an IP
	Port uint16
}

// maxSocketPath is the longest path that a unix socket's address holds on every system that we run on.
const maxSocketPath = 103

// ParseEndpoint reads unix:///path, an absolute path, or host:port with an IP or "localhost".
func ParseEndpoint(text string) (Endpoint, error) {
	path := strings.TrimPrefix(text, "unix://")
	if filepath.IsAbs(path) {
		if len(path) > maxSocketPath {
			return Endpoint{}, fmt.Errorf("socket %q: is %d bytes long, want at most %d", path, len(path), maxSocketPath)
		}
		return Endpoint{Path: path}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Endpoint{}, fmt.Errorf("address %q: want IP:port or unix:///path", text)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return Endpoint{}, fmt.Errorf("address %q: want a port from 1 to 65535", text)
	}
	if net.ParseIP(host) == nil {
		return Endpoint{}, fmt.Errorf("address %q: want an IP before the port: Envoy listens on no names", text)
	}
	return Endpoint{Host: host, Port: uint16(number)}, nil
}

func (e Endpoint) String() string {
	if e.Path != "" {
		return "unix://" + e.Path
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

func (e Endpoint) address() *corev3.Address {
	if e.Path != "" {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.Path, Mode: 0o600}}}
	}
	return socketAddress(e.Host, e.Port)
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

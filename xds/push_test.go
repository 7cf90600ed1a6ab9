package xds

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A new proxy gets everything, in the order in which it can use it.
func TestFirstConnect(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetEndpoints(cla("svc~db", "1"))
		s.SetProxy(sidecar("web"))
		c := newClient(t, s)
		c.connect("web")
		c.expect("CDS +app +out~db", "EDS +svc~db", "LDS +in", "SDS +authz~east", "LDS +out~db")
		c.disconnect()
	})
}

// Its second stream, from this server or a new one, gets nothing of what it has.
func TestReconnectSendsNothing(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetEndpoints(cla("svc~db", "1"))
		s.SetProxy(sidecar("web"))
		c := newClient(t, s)
		c.connect("web")
		c.settle()
		c.disconnect()
		c.log = nil
		c.connect("web")
		c.expect("")
		c.disconnect()

		fresh := newServer(Config{})
		fresh.SetEndpoints(cla("svc~db", "1"))
		fresh.SetProxy(sidecar("web"))
		c.server = fresh
		c.connect("web")
		c.expect("")
		c.disconnect()
	})
}

var _ = envoy.Hash

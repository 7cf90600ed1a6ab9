package xds

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// leafLife is how long the certificates of these tests live; they are renewed at half of it.
const leafLife = 20 * time.Minute

// An issuer makes a certificate when the last one of that identity is due.
type issuer struct {
	mu     sync.Mutex
	root   string
	fail   error
	pause  time.Duration
	issued int
	cached map[string]Leaf
}

func (i *issuer) Leaf(_ context.Context, identity string) (Leaf, error) {
	i.mu.Lock()
	pause := i.pause
	i.mu.Unlock()
	<-time.After(pause)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fail != nil {
		return Leaf{}, i.fail
	}
	now := time.Now()
	if leaf, cached := i.cached[identity]; cached && leaf.RootID == i.root && now.Before(leaf.RenewAt) {
		return leaf, nil
	}
	i.issued++
	leaf := Leaf{
		CertPEM: []byte(identity), KeyPEM: redact.NewBytes([]byte("key")), RootID: i.root,
		NotBefore: now, NotAfter: now.Add(leafLife), RenewAt: now.Add(leafLife / 2),
		Version: fmt.Sprintf("%s.%d", i.root, now.Add(leafLife).Unix()),
	}
	i.cached[identity] = leaf
	return leaf, nil
}

func (i *issuer) RenewAt(version string) (time.Time, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	root, expiry, _ := strings.Cut(version, ".")
	var seconds int64
	if _, err := fmt.Sscan(expiry, &seconds); err != nil || root != i.root || time.Now().Unix() >= seconds {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0).Add(-leafLife / 2), true
}

func (i *issuer) rotate(root string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.root = root
}

func (i *issuer) slow(pause time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pause = pause
}

func (i *issuer) break_(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fail = err
}

// identified is a set with nothing but a certificate.
func identified(identity string) *envoy.Set {
	return &envoy.Set{Proxy: "web", LeafIdentity: identity,
		Clusters: []*envoy.Resource{cluster("app", "|sds:leaf|", "")}}
}

func withLeaves(t *testing.T, test func(t *testing.T, s *Server, i *issuer)) {
	i := &issuer{root: "r1", cached: map[string]Leaf{}}
	inBubble(t, Config{Leaves: i, MaxAge: 24 * time.Hour}, func(t *testing.T, s *Server) { test(t, s, i) })
}

func TestLeafIsRenewedWhenDue(t *testing.T) {
	withLeaves(t, func(t *testing.T, s *Server, i *issuer) {
		s.SetProxy(identified("spiffe://td/web"))
		c := newClient(t, s)
		c.connect("web")
		c.expect("CDS +app", "LDS", "SDS +leaf")
		var secret tlsv3.Secret
		if err := proto.Unmarshal(c.body["SDS leaf"], &secret); err != nil {
			t.Fatal(err)
		}
		tls := secret.GetTlsCertificate()
		if string(tls.GetCertificateChain().GetInlineBytes()) != "spiffe://td/web" ||
			string(tls.GetPrivateKey().GetInlineBytes()) != "key" || secret.Name != envoy.LeafName {
			t.Errorf("secret %v: want certificate and key inline", &secret)
		}
		wait(leafLife/2 - time.Second)
		c.expect("")
		wait(time.Second)
		c.expect("SDS +leaf")
		if i.issued != 2 {
			t.Errorf("%d certificates issued, want 2", i.issued)
		}
		c.disconnect()
		wait(time.Minute)
		c.connect("web") // it reports a good one
		c.expect("LDS")
		wait(leafLife/2 - time.Minute - time.Second)
		c.expect("")
		wait(time.Second)
		c.expect("SDS +leaf")
		c.disconnect()
		wait(leafLife)
		c.connect("web") // what it reports has expired
		c.expect("LDS", "SDS +leaf")
		c.disconnect()
	})
}

func TestLeafOfAnotherRoot(t *testing.T) {
	withLeaves(t, func(t *testing.T, s *Server, i *issuer) {
		c := connected(t, s, identified("spiffe://td/web"))
		i.rotate("r2")
		c.expect("")
		s.RenewLeaves()
		c.expect("SDS +leaf")
		s.RenewLeaves()
		c.expect("")
		i.rotate("r3")
		c.disconnect()
		c.connect("web")
		c.expect("LDS", "SDS +leaf")
	})
}

func TestLeafFollowsIdentity(t *testing.T) {
	withLeaves(t, func(t *testing.T, s *Server, i *issuer) {
		c := connected(t, s, identified("spiffe://td/web"))
		s.SetProxy(identified("spiffe://td/api"))
		c.expect("SDS +leaf")
		if got := string(c.body["SDS leaf"]); !strings.Contains(got, "spiffe://td/api") {
			t.Errorf("leaf %q: want the one of api", got)
		}
		s.SetProxy(identified(""))
		c.expect("")
		s.SetProxy(identified("spiffe://td/api"))
		c.settle()
	})
}

func TestLeafSourceFails(t *testing.T) {
	withLeaves(t, func(t *testing.T, s *Server, i *issuer) {
		i.break_(errors.New("out of entropy"))
		c := connected(t, s, identified("spiffe://td/web"))
		wait(10 * time.Minute)
		c.expect("")
		if got := count(s.metrics.leafErrors); got < 10 || got > 20 {
			t.Errorf("asked %v times in ten minutes, want one a minute after the first", got)
		}
		i.break_(nil)
		wait(leafRetryMax)
		c.expect("SDS +leaf")
	})
}

// A certificate that is rejected is not sent again; other secrets are not suspected with it.
func TestLeafRejected(t *testing.T) {
	withLeaves(t, func(t *testing.T, s *Server, i *issuer) {
		c := newClient(t, s)
		c.reject = func(_ kind, name string, _ []byte) string { return map[string]string{"leaf": "no key"}[name] }
		s.SetProxy(identified("spiffe://td/web"))
		c.connect("web")
		c.expect("CDS +app", "LDS", "SDS +leaf")
		wait(5 * time.Minute)
		c.expect("")
		if got := s.Proxies()[0].Types[secrets].Rejection; got == nil || got.Text != "leaf: no key" {
			t.Errorf("rejection %+v: want that of the leaf", got)
		}
		c.reject = nil
		wait(leafLife / 2)
		c.expect("SDS +leaf")
		c.disconnect()
	})
}

// Asking again brings the certificate again, whatever the proxy has.
func TestLeafAskedAgain(t *testing.T) {
	withLeaves(t, func(t *testing.T, s *Server, i *issuer) {
		c := connected(t, s, identified("spiffe://td/web"))
		c.wire.toServer <- &request{TypeUrl: typeURLs[secrets], ResourceNamesSubscribe: []string{"leaf"}}
		c.expect("SDS +leaf")
		if i.issued != 1 {
			t.Errorf("%d certificates issued, want one", i.issued)
		}
	})
}

// with is a sidecar whose listener asks for the certificate and for a secret.
func with(identity string) *envoy.Set {
	set := sidecar("web", func(set *envoy.Set) {
		set.Listeners[0] = listener("in", "1", chain("peer~east", "|sds:leaf|", "authz~east"))
	})
	set.LeafIdentity = identity
	return set
}

// The first certificate goes with the secrets that were asked for with it, unless it takes its time.
func TestFirstLeafGoesWithOthers(t *testing.T) {
	withLeaves(t, func(t *testing.T, s *Server, i *issuer) {
		s.SetEndpoints(cla("svc~db", "1"))
		s.SetProxy(with("spiffe://td/web"))
		c := newClient(t, s)
		c.connect("web")
		c.expect("CDS +app +out~db", "EDS +svc~db", "LDS +in +out~db", "SDS +authz~east +leaf")
		c.disconnect()

		i.slow(leafGrace + time.Second)
		i.rotate("r2")
		c = newClient(t, s)
		c.connect("web")
		c.expect("CDS +app +out~db", "EDS +svc~db", "LDS +in +out~db")
		wait(leafGrace)
		c.expect("SDS +authz~east")
		wait(time.Second)
		c.expect("SDS +leaf")
		c.disconnect()
	})
}

// When their response is rejected, each is tried alone.
func TestFirstLeafRejectedWithOthers(t *testing.T) {
	for _, culprit := range []string{"leaf", "authz~east"} {
		withLeaves(t, func(t *testing.T, s *Server, i *issuer) {
			s.SetProxy(with("spiffe://td/web"))
			c := newClient(t, s)
			c.reject = func(_ kind, name string, _ []byte) string { return map[string]string{culprit: "no"}[name] }
			c.connect("web")
			c.settle()
			c.log = nil
			wait(5 * time.Second)
			c.settle()
			if c.body["SDS leaf"] == nil == (culprit == "authz~east") {
				t.Errorf("%s rejected: leaf %q", culprit, c.body["SDS leaf"])
			}
			if c.body["SDS authz~east"] == nil == (culprit == "leaf") {
				t.Errorf("%s rejected: secret %q", culprit, c.body["SDS authz~east"])
			}
			c.log = nil
			wait(firstRetry / 2)
			c.expect("")
			c.disconnect()
		})
	}
}

package peering

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
)

// bundle takes the peer's complete set of roots. The first one pins the peer's trust domain, unless its token has; from
// then on another trust domain is refused, and the last good roots stay.
func (im *importer) bundle(ctx context.Context, r *wire.Response) error {
	var message wire.PeeringTrustBundle
	if err := proto.Unmarshal(r.Resource.Value, &message); err != nil {
		return refuse(wire.CodeInternal, "trust bundle: %v", err)
	}
	if message.PeerName != "" || message.Partition != "" {
		im.link.note(func(n *notes) { n.ignored++ })
	}
	roots, err := bundleRoots(&message, im.service.Now())
	if err != nil {
		return refuse(wire.CodeInvalidArgument, "trust bundle: %v", err)
	}
	var problem string
	frozen := false
	err = im.service.update(ctx, im.link.id, func(peer *snapshot.Peer) ([]snapshot.Event, error) {
		frozen = peer.Problem != ""
		if problem = mayPin(im.service.Store.World(), peer, message.TrustDomain); problem != "" {
			if peer.Problem == problem {
				return nil, errUnchanged
			}
			peer.Problem = problem
			return nil, nil
		}
		return nil, im.pin(peer, message.TrustDomain, roots)
	})
	switch {
	case err != nil && !errors.Is(err, errUnchanged):
		return err
	case problem != "":
		im.log.WithField(logkey.TrustDomain, message.TrustDomain).WithField(logkey.Reason, problem).Error("peer's trust domain refused")
		return refuseDomain(problem)
	case frozen:
		return errResync
	}
	return nil
}

// errUnchanged stops an update that would change nothing.
var errUnchanged = errors.New("nothing changed")

// pin writes what a good bundle says into the row.
func (im *importer) pin(peer *snapshot.Peer, trustDomain string, roots []string) error {
	if peer.TrustDomain == trustDomain && slices.Equal(peer.Roots, roots) && peer.Problem == "" && peer.Dialect == im.dialect.name {
		return errUnchanged
	}
	if peer.TrustDomain == "" {
		im.log.WithField(logkey.TrustDomain, trustDomain).Info("peer's trust domain pinned")
	}
	peer.TrustDomain, peer.Roots, peer.Problem, peer.Dialect = trustDomain, roots, "", im.dialect.name
	if peer.State == snapshot.Pending {
		peer.State = snapshot.Establishing
	}
	if peer.Role == snapshot.Dialer && im.dialect.rotates && !olderToken(peer) && len(peer.CAPEMs) > 0 {
		peer.CAPEMs = roots
	}
	return nil
}

// olderToken tells whether the token of a peer was made by a server of 1.13. Such a server speaks in clear or with
// certificates of its own, at a port that it keeps when it goes to a later version; what that one announces is another
// port, with certificates of its CA for a name that the token does not know.
func olderToken(peer *snapshot.Peer) bool {
	_, ok := sni.PeeringServerTrustDomain(peer.ServerName)
	return !ok
}

// mayPin returns why a peer may not be known by a trust domain; "" when it may.
func mayPin(w *snapshot.World, peer *snapshot.Peer, trustDomain string) string {
	if cluster := w.Cluster(); cluster != nil && sameName(cluster.TrustDomain, trustDomain) {
		return fmt.Sprintf("trust domain %s is our own", trustDomain)
	}
	if peer.TrustDomain != "" && peer.TrustDomain != trustDomain {
		return fmt.Sprintf("trust domain changed from %s to %s: delete the peering and establish it again if that is meant", peer.TrustDomain, trustDomain)
	}
	for _, other := range w.Peers() {
		if other.ID != peer.ID && sameName(other.TrustDomain, trustDomain) && other.State != snapshot.Deleting && other.State != snapshot.Terminated {
			return fmt.Sprintf("trust domain %s is already peer %s; federated datacenters share one trust domain: peer with one of them", trustDomain, other.Name)
		}
	}
	return ""
}

// bundleRoots returns the roots of a bundle, re-encoded, in their order, without duplicates and without those that have
// expired: a peer that rotates may send the former root for a while.
func bundleRoots(message *wire.PeeringTrustBundle, now time.Time) ([]string, error) {
	trustDomain, err := spiffeid.TrustDomainFromString(message.TrustDomain)
	if err != nil || trustDomain.Name() != message.TrustDomain {
		return nil, fmt.Errorf("trust domain %.300q: want a name in lower case", message.TrustDomain)
	}
	if len(message.RootPEMs) == 0 || len(message.RootPEMs) > maxRoots {
		return nil, fmt.Errorf("%d roots: want 1 to %d", len(message.RootPEMs), maxRoots)
	}
	var roots []string
	var expired error
	for _, text := range message.RootPEMs {
		root, err := parseRoot(text)
		if err != nil {
			return nil, err
		}
		if err := checkRoot(root, message.TrustDomain); err != nil {
			return nil, err
		}
		if now.After(root.NotAfter) {
			expired = fmt.Errorf("root %q: expired at %s: want one that is good", root.Subject, stamp(root.NotAfter))
			continue
		}
		encoded := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
		if !slices.Contains(roots, encoded) {
			roots = append(roots, encoded)
		}
	}
	if len(roots) == 0 {
		return nil, expired
	}
	return roots, nil
}

// checkRoot wants a certificate authority, and no other trust domain in its name.
func checkRoot(root *x509.Certificate, trustDomain string) error {
	if !root.IsCA {
		return fmt.Errorf("root %q: is not a certificate authority", root.Subject)
	}
	for _, uri := range root.URIs {
		if uri.Scheme == "spiffe" && !strings.EqualFold(uri.Host, trustDomain) {
			return fmt.Errorf("root %q: is of trust domain %.300s: want %s", root.Subject, uri.Host, trustDomain)
		}
	}
	return nil
}

// addresses takes the complete list of addresses at which the peer accepts streams.
func (im *importer) addresses(ctx context.Context, r *wire.Response) error {
	var message wire.PeeringServerAddresses
	if err := proto.Unmarshal(r.Resource.Value, &message); err != nil {
		return refuse(wire.CodeInternal, "server addresses: %v", err)
	}
	if len(message.Addresses) == 0 {
		return refuse(wire.CodeInvalidArgument, "server addresses: none: want at least one")
	}
	if err := checkAddresses(message.Addresses); err != nil {
		return refuse(wire.CodeInvalidArgument, "server addresses: %v", err)
	}
	if err := noneAllowed(addressPolicy(im.service.Store.World(), im.link.name), message.Addresses); err != nil {
		return refuse(wire.CodeInvalidArgument, "server addresses: %v", err)
	}
	err := im.service.update(ctx, im.link.id, func(peer *snapshot.Peer) ([]snapshot.Event, error) {
		if slices.Equal(peer.ServerAddresses, message.Addresses) || im.dialect.rotates && olderToken(peer) {
			return nil, errUnchanged
		}
		peer.ServerAddresses = message.Addresses
		return nil, nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// noneAllowed says why none of a list of addresses would ever be dialled; nil when one may be. A host name is held against
// the policy when it is dialled.
func noneAllowed(rules config.AddressPolicy, addresses []string) (refused error) {
	for _, address := range addresses {
		target, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil
		}
		if err := rules.Check(target); err == nil {
			return nil
		} else if refused == nil {
			refused = err
		}
	}
	return refused
}

// sweep runs when a new stream has been quiet for a while, and takes away what an earlier one brought and this one did
// not announce again: single forms where there is an inventory, and all else where there is none.
func (im *importer) sweep(ctx context.Context) error {
	if im.swept || len(im.sizes) == 0 && !im.complete.Load() {
		return nil
	}
	tx := im.begin()
	if !tx.peer.Usable() || tx.peer.Problem != "" || im.dialect.inventory && !im.complete.Load() {
		return nil
	}
	for _, stored := range tx.world.Imports(im.link.name) {
		_, mesh := im.sizes[stored.Service+wire.ProxySuffix]
		_, normal := im.sizes[stored.Service]
		switch {
		case !mesh && !normal:
			tx.remove(stored.Service)
		case !mesh && len(stored.Gateways) > 0:
			tx.replace(stored.Service, true, nil)
		case !normal && len(stored.Instances) > 0:
			tx.replace(stored.Service, false, nil)
		}
	}
	im.swept = true
	im.complete.Store(true)
	return tx.commit(ctx)
}

package e2e

import "github.com/isthmus-mesh/isthmus/e2e/lab"

// followedConsul is a Consul whose xDS serves no Envoy of today.
type followedConsul struct{ *lab.Consul }

package api

import (
	"net/http"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

func whyRoutes() []route {
	return []route{{method: "GET", pattern: "/isthmus/v1/why", access: read, do: why}}
}

// why explains one call: of ?source= to ?destination=, which ?peer= may make a service of a peer, while ?source-peer=
// makes the source one. The answer is a snapshot.Explanation.
func why(c *call) (any, error) {
	p, err := pairParams(c)
	if err != nil {
		return nil, err
	}
	values := c.URL.Query()
	if from := values.Get("source-peer"); from != "" {
		p.peer = from
	}
	to := peerParam(c)
	switch {
	case p.peer != "" && to != "":
		return nil, refuse(http.StatusBadRequest, "parameter", "source of peer %s and destination of peer %s: one of the two must be a service of ours", p.peer, to)
	case p.peer != "":
		return snapshot.WhyFrom(c.world, p.peer, p.source, p.destination), nil
	}
	return snapshot.Why(c.world, p.source, p.destination, to), nil
}

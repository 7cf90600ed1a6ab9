package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// aggregateJSON is the health of one instance of our own node: its worst check.
type aggregateJSON struct {
	AggregatedStatus string
	Service          *agentJSON
	Checks           []checkJSON
}

func aggregate(w *snapshot.World, i *snapshot.Instance) aggregateJSON {
	shape := agentShape(w, i)
	result := aggregateJSON{AggregatedStatus: config.HealthPassing, Service: &shape, Checks: instanceShape(w, i).Checks}
	for _, check := range result.Checks {
		status := check.Status
		if check.Type == "maintenance" {
			status = config.HealthMaintenance
		}
		result.AggregatedStatus = worse(result.AggregatedStatus, status)
	}
	return result
}

func healthByID(c *call) (any, error) {
	id := c.PathValue("id")
	i := local(c.world, id)
	if i == nil {
		return healthAnswer(c, "", fmt.Sprintf("ServiceId %s not found", id), aggregateJSON{AggregatedStatus: config.HealthCritical})
	}
	result := aggregate(c.world, i)
	return healthAnswer(c, result.AggregatedStatus, result.AggregatedStatus, result)
}

func healthByName(c *call) (any, error) {
	name := c.PathValue("name")
	results, worst := []aggregateJSON{}, ""
	for _, i := range c.world.Instances(name) {
		if i.Node == c.world.Cluster().NodeName {
			result := aggregate(c.world, i)
			results, worst = append(results, result), worse(worst, result.AggregatedStatus)
		}
	}
	text := worst
	if worst == "" {
		text = fmt.Sprintf("ServiceName %s Not Found", name)
	}
	return healthAnswer(c, worst, text, results)
}

// healthAnswer gives a status its HTTP status, which is what load balancers look at: 200, 429 for warning, 503 for
// worse, 404 for a service that is not there.
func healthAnswer(c *call, status, text string, value any) (any, error) {
	code := map[string]int{
		"": http.StatusNotFound, config.HealthPassing: http.StatusOK, config.HealthWarning: http.StatusTooManyRequests,
		config.HealthCritical: http.StatusServiceUnavailable, config.HealthMaintenance: http.StatusServiceUnavailable,
	}[status]
	c.w.Header().Set("X-Consul-Reason", text)
	if c.URL.Query().Get("format") == "text" || strings.HasPrefix(c.Header.Get("Accept"), "text/plain") {
		return raw{code, "text/plain", []byte(text)}, nil
	}
	body, err := encode(c, value)
	return raw{code, "application/json", body}, err
}

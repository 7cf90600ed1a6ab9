package api

import (
	"net/http"

	"github.com/hashicorp/go-bexpr"
)

const (
	maxFilter = 4 << 10
	// maxFilterSteps bounds the parser, whose work can grow faster than its input.
	maxFilterSteps = 200_000
)

// A filter is a client's ?filter= expression. A nil one keeps everything.
type filter struct{ evaluator *bexpr.Evaluator }

// filterParam reads ?filter=.
func filterParam(c *call) (*filter, error) {
	expression := c.URL.Query().Get("filter")
	if expression == "" {
		return nil, nil
	}
	if len(expression) > maxFilter {
		return nil, refuse(http.StatusBadRequest, "filter", "Invalid filter: %d bytes: want at most %d", len(expression), maxFilter)
	}
	evaluator, err := bexpr.CreateEvaluator(overLists(expression), bexpr.WithMaxExpressions(maxFilterSteps))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "filter", "Failed to create boolean expression evaluator: %v", err)
	}
	return &filter{evaluator}, nil
}

// keep tells whether an object matches.
func (f *filter) keep(object any) (bool, error) {
	if f == nil {
		return true, nil
	}
	ok, err := f.evaluator.Evaluate(object)
	if err != nil {
		return false, refuse(http.StatusBadRequest, "filter", "Invalid filter: %v", err)
	}
	return ok, nil
}

// filtered returns those of list that match; never nil, since Consul answers [] for none.
func filtered[T any](f *filter, list []T) ([]T, error) {
	kept := make([]T, 0, len(list))
	for _, object := range list {
		ok, err := f.keep(object)
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, object)
		}
	}
	return kept, nil
}

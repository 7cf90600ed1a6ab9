// Package logkey names the fields of log lines, so that one thing has one name in every line.
package logkey

// The fields, in the form that logrus' WithField takes.
const (
	Proxy       = "proxy"
	Peer        = "peer"
	Service     = "service"
	Watch       = "watch"
	World       = "world"
	TypeURL     = "type_url"
	Nonce       = "nonce"
	Resources   = "resources"
	RetryIn     = "retry_in"
	TrustDomain = "trust_domain"
	Address     = "address"
	Kind        = "kind"
	Name        = "name"
	Reason      = "reason"
	Path        = "path"
	Status      = "status"
	Stack       = "stack"
)

package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/config"
)

// reload reads the configuration again at each SIGHUP, until ctx ends. What can change while running does: the log level,
// the addresses that peers may have us dial, the default intention policy, the lowest TLS version, this node's address and what is in the files of certificates. A configuration
// that is wrong changes nothing.
func (p *plane) reload(ctx context.Context, read func() (config.Server, error)) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	current := p.cfg
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hangups:
		}
		current = p.hangup(ctx, current, read)
	}
}

// hangup does what one SIGHUP asks for, and returns the configuration in force then.
func (p *plane) hangup(ctx context.Context, current config.Server, read func() (config.Server, error)) config.Server {
	for _, pair := range p.pairs.all() {
		pair.reload()
	}
	next, err := read()
	if err == nil {
		current, err = p.apply(ctx, current, next)
	}
	if err != nil {
		p.log.WithError(err).Error("configuration not reloaded: the former one stays")
	}
	return current
}

// apply takes over what of next can change while running, tells of the rest, and returns what is in force then.
func (p *plane) apply(ctx context.Context, current, next config.Server) (config.Server, error) {
	changed := current
	changed.LogLevel, changed.AllowPeerAddresses = next.LogLevel, next.AllowPeerAddresses
	changed.NodeAddress = next.NodeAddress
	changed.DefaultIntentionPolicy, changed.MeshTLSMin = next.DefaultIntentionPolicy, next.MeshTLSMin
	if err := p.writeSelf(ctx, changed); err != nil {
		return current, err
	}
	if level, err := logrus.ParseLevel(changed.LogLevel); err == nil { // config has checked it
		p.log.SetLevel(level)
	}
	if waiting := config.Changed(changed, next); len(waiting) > 0 {
		p.log.WithField("options", strings.Join(waiting, ", ")).Warn("configuration reloaded: these options need a restart")
	} else {
		p.log.Info("configuration reloaded")
	}
	return changed, nil
}

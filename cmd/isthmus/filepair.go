package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/config"
)

const (
	// pairLook is how long a handshake trusts the last look at the files.
	pairLook = 10 * time.Second
	// pairWarning is how long before an operator's certificate ends it is worth knowing.
	pairWarning = 14 * 24 * time.Hour
)

// filePair is a certificate that the operator gave as files. It is read again when they change, and at SIGHUP; a pair that cannot be used leaves the former
// one in force.
type filePair struct {
	option string // http_tls
	files  config.KeyPair
	log    logrus.FieldLogger
	now    func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	seen    string    // what the files looked like when they were read last
	looked  time.Time // when
	problem error     // of the newest pair
}

// newFilePair reads a pair for the first time.
func newFilePair(option string, files config.KeyPair, log logrus.FieldLogger) (*filePair, error) {
	pair := &filePair{option: option, files: files, log: log, now: time.Now}
	pair.read()
	if pair.problem != nil {
		return nil, fmt.Errorf("%s_cert: %w", option, pair.problem)
	}
	return pair, nil
}

// get is tls.Config's GetCertificate.
func (f *filePair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(pairLook)
	return f.current, nil
}

// reload looks at the files now.
func (f *filePair) reload() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(0)
}

// look reads the files again if they look otherwise than when that was done last.
func (f *filePair) look(every time.Duration) {
	now := f.now()
	if now.Sub(f.looked) < every {
		return
	}
	f.looked = now
	if f.appearance() == f.seen {
		return
	}
	if f.read(); f.problem != nil {
		f.log.WithError(f.problem).WithField("option", f.option+"_cert").Error("certificate not read again: the former one stays")
		return
	}
	f.log.WithField("option", f.option+"_cert").WithField("not_after", moment(f.current.Leaf.NotAfter)).Info("certificate read again")
}

// appearance is the size and time of each file. Files that cannot be seen look like none.
func (f *filePair) appearance() (text string) {
	for _, name := range []string{f.files.Cert, f.files.Key} {
		if info, err := os.Stat(name); err == nil {
			text += fmt.Sprintf("%d %d %v;", info.Size(), info.ModTime().UnixNano(), os.FileMode.IsRegular(info.Mode()))
		}
	}
	return text
}

func (f *filePair) read() {
	f.seen = f.appearance() // before they are read: what changes meanwhile is read again
	pair, err := tls.LoadX509KeyPair(f.files.Cert, f.files.Key)
	if err == nil && f.current != nil && !f.now().Before(pair.Leaf.NotAfter) {
		err = errors.New("it ended at " + moment(pair.Leaf.NotAfter))
	}
	if f.problem = err; err == nil {
		f.current = &pair
	}
}

// check says how long it lasts.
func (f *filePair) check() api.SelfCheck {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(0)
	ends, left := f.current.Leaf.NotAfter, f.current.Leaf.NotAfter.Sub(f.now())
	c := api.SelfCheck{Check: "certificate of " + f.option + "_cert is valid", Fix: "renew " + f.files.Cert + " and its key: they are read again by themselves"}
	switch {
	case left <= 0:
		c.Problem = "it ended at " + moment(ends)
	case f.problem != nil:
		c.Problem = "the newer one cannot be used: " + f.problem.Error()
	case left < pairWarning:
		c.Warning = "it ends at " + moment(ends)
	}
	return c
}

// openPairs reads the certificates that the operator gave.
func (p *plane) openPairs() (err error) {
	if p.cfg.HTTPTLS.Cert != "" {
		if p.pairs.http, err = newFilePair("http_tls", p.cfg.HTTPTLS, p.log); err != nil {
			return err
		}
	}
	if p.cfg.XDSTLS.Cert != "" {
		p.pairs.xds, err = newFilePair("xds_tls", p.cfg.XDSTLS, p.log)
	}
	return err
}

// filePairs are the operator's certificates; nil where there is none.
type filePairs struct{ http, xds *filePair }

func (p filePairs) all() (all []*filePair) {
	for _, pair := range []*filePair{p.http, p.xds} {
		if pair != nil {
			all = append(all, pair)
		}
	}
	return all
}

// checks are what the server looked at of itself.
func (p *plane) checks() []api.SelfCheck {
	checks := []api.SelfCheck{p.trail.check()}
	for _, pair := range p.pairs.all() {
		checks = append(checks, pair.check())
	}
	return checks
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
)

const defaultHTTPAddress = "127.0.0.1:8500"

// connection is how to reach the server: flags, else ISTHMUS_… variables, else Consul's.
type connection struct {
	address, token, tokenFile         string
	caFile, caPath, cert, key, server string
	datacenter, namespace, partition  string
	stale                             bool
}

// connected adds the connection's flags to a command and all below it.
func connected(cmd *cobra.Command) (*cobra.Command, *connection) {
	c := &connection{}
	c.addFlags(cmd)
	return cmd, c
}

func (c *connection) addFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&c.address, "http-addr", "", "the server's `address`: host:port, URL or unix:///path (ISTHMUS_HTTP_ADDR, CONSUL_HTTP_ADDR; default "+defaultHTTPAddress+")")
	flags.StringVar(&c.token, "token", "", "`token` to send; better in a file or ISTHMUS_HTTP_TOKEN: others see a command's arguments")
	flags.StringVar(&c.tokenFile, "token-file", "", "`file` that holds the token (ISTHMUS_HTTP_TOKEN_FILE, CONSUL_HTTP_TOKEN_FILE)")
	flags.StringVar(&c.caFile, "ca-file", "", "`file` with the roots that vouch for the server (ISTHMUS_CACERT, CONSUL_CACERT)")
	flags.StringVar(&c.caPath, "ca-path", "", "`folder` of such files (ISTHMUS_CAPATH, CONSUL_CAPATH)")
	flags.StringVar(&c.cert, "client-cert", "", "certificate `file` to show to the server (ISTHMUS_CLIENT_CERT, CONSUL_CLIENT_CERT)")
	flags.StringVar(&c.key, "client-key", "", "its key `file` (ISTHMUS_CLIENT_KEY, CONSUL_CLIENT_KEY)")
	flags.StringVar(&c.server, "tls-server-name", "", "`name` that the server's certificate must carry (ISTHMUS_TLS_SERVER_NAME, CONSUL_TLS_SERVER_NAME)")
	flags.StringVar(&c.datacenter, "datacenter", "", "datacenter to ask, where the server is a Consul")
	flags.BoolVar(&c.stale, "stale", false, "let any server answer, where the server is a Consul")
	flags.StringVar(&c.namespace, "namespace", "", "there is only default")
	flags.StringVar(&c.partition, "partition", "", "there is only default")
}

// setting returns the flag's value, else the variable's under our prefix, else under Consul's.
func setting(flag, variable string) string {
	for _, value := range []string{flag, os.Getenv("ISTHMUS_" + variable), os.Getenv("CONSUL_" + variable)} {
		if value != "" {
			return value
		}
	}
	return ""
}

// client returns what talks to the server. It reads files and variables, and sends nothing yet.
func (c *connection) client() (*client, error) {
	for what, value := range map[string]string{"namespace": setting(c.namespace, "NAMESPACE"), "partition": setting(c.partition, "PARTITION")} {
		if value != "" && value != config.DefaultNamespace {
			return nil, fmt.Errorf("%s %q: is not supported: want %s or none", what, value, config.DefaultNamespace)
		}
	}
	base, socket, err := c.baseURL()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSHandshakeTimeout: 10 * time.Second, Proxy: http.ProxyFromEnvironment}
	dial := (&net.Dialer{}).DialContext
	if socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	transport.DialContext = dial
	if transport.TLSClientConfig, err = c.tlsConfig(); err != nil {
		return nil, err
	}
	token, err := c.secret()
	if err != nil {
		return nil, err
	}
	made := &client{
		base: base, local: socket != "" || loopback(base.Hostname()), unverified: transport.TLSClientConfig.InsecureSkipVerify, dial: dial,
		token: token, query: url.Values{},
	}
	if c.datacenter != "" {
		made.query.Set("dc", c.datacenter)
	}
	if c.stale {
		made.query.Set("stale", "")
	}
	// Answers that redirect elsewhere would take the token along.
	made.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if user, password, ok := strings.Cut(setting("", "HTTP_AUTH"), ":"); ok {
		made.user = url.UserPassword(user, password)
	}
	return made, nil
}

// baseURL returns the URL to ask, and the unix socket to dial for it, if any.
func (c *connection) baseURL() (*url.URL, string, error) {
	address := setting(c.address, "HTTP_ADDR")
	if address == "" {
		address = defaultHTTPAddress
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return &url.URL{Scheme: "http", Host: "localhost"}, path, nil
	}
	scheme := "http"
	if on, err := strconv.ParseBool(setting("", "HTTP_SSL")); err == nil && on {
		scheme = "https"
	}
	if !strings.Contains(address, "://") {
		address = scheme + "://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, "", fmt.Errorf("server address %q: want host:port, an http or https URL, or unix:///path", address)
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	return base, "", nil
}

func (c *connection) tlsConfig() (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: setting(c.server, "TLS_SERVER_NAME")}
	if verify, err := strconv.ParseBool(setting("", "HTTP_SSL_VERIFY")); err == nil {
		settings.InsecureSkipVerify = !verify // as the variable asks, which Consul's tools take too
	}
	files := []string{}
	if file := setting(c.caFile, "CACERT"); file != "" {
		files = append(files, file)
	} else if folder := setting(c.caPath, "CAPATH"); folder != "" {
		found, err := filepath.Glob(filepath.Join(folder, "*"))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("roots in %s: want files of PEM", folder)
		}
		files = found
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("roots of the server: %w", err)
		}
		if settings.RootCAs == nil {
			settings.RootCAs = x509.NewCertPool()
		}
		if !settings.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("roots of the server: %s: want certificates in PEM", file)
		}
	}
	cert, key := setting(c.cert, "CLIENT_CERT"), setting(c.key, "CLIENT_KEY")
	if (cert == "") != (key == "") {
		return nil, errors.New("client certificate: want both --client-cert and --client-key")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	return settings, nil
}

// secret returns the token to send, from the nearest place that has one, or none.
func (c *connection) secret() (redact.String, error) {
	switch {
	case c.token != "":
		return redact.NewString(c.token), nil
	case c.tokenFile != "":
		return tokenIn(c.tokenFile)
	}
	for _, prefix := range []string{"ISTHMUS_", "CONSUL_"} {
		if token := os.Getenv(prefix + "HTTP_TOKEN"); token != "" {
			return redact.NewString(token), nil
		}
		if file := os.Getenv(prefix + "HTTP_TOKEN_FILE"); file != "" {
			return tokenIn(file)
		}
	}
	return redact.String{}, nil
}

func tokenIn(file string) (redact.String, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return redact.String{}, fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return redact.String{}, fmt.Errorf("token file %s: want one token and nothing else", file)
	}
	return redact.NewString(token), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

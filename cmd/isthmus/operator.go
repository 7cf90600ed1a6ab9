package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// operatorTokenName is the file in the server's data directory that holds the first operator's token.
const operatorTokenName = "operator.token"

// proofTimeout bounds how long a server may take to prove itself.
const proofTimeout = 10 * time.Second

const whoamiPath = "/isthmus/v1/whoami"

// becomeOperator gives c the token of the server on this machine, where there is one that it may read, and tells whether
// it did. Over http without TLS it then speaks only on connections whose other end has proved that it reads that token too:
// whoever took the server's port while it was away gets neither the token nor what is asked with it.
func (c *client) becomeOperator(ctx context.Context) bool {
	if !c.local || !c.token.Empty() || c.unverified {
		return false
	}
	token, file, found := c.operatorToken(ctx)
	if !found {
		return false
	}
	c.token = token
	if c.base.Scheme != "https" {
		p := prover{token: token, file: file, whoami: c.base.JoinPath(whoamiPath), dial: c.dial}
		c.http = &http.Client{Transport: &http.Transport{DialContext: p.connect}, CheckRedirect: c.http.CheckRedirect}
	}
	return true
}

// operatorToken returns the token of the server on this machine, from ISTHMUS_DATA_DIR or from where the server says
// that it lies. Only a file of that name which nobody else can read is taken: whoever listens at the address could
// otherwise make us send it any file. One that the server names must also be ours or lie where servers keep it: somebody
// could name a file of their own, and prove that they read that.
func (c *client) operatorToken(ctx context.Context) (token redact.String, file string, found bool) {
	file = filepath.Join(os.Getenv("ISTHMUS_DATA_DIR"), operatorTokenName)
	if os.Getenv("ISTHMUS_DATA_DIR") == "" {
		body, err := c.once(ctx, request{method: http.MethodGet, path: whoamiPath}, nil)
		if err != nil {
			return token, "", false
		}
		var answer api.Whoami
		if json.Unmarshal(body, &answer) != nil || filepath.Base(answer.OperatorTokenFile) != operatorTokenName || !filepath.IsAbs(answer.OperatorTokenFile) {
			return token, "", false
		}
		file = answer.OperatorTokenFile
	}
	info, err := os.Lstat(file)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&fs.FileMode(0o077) != 0 {
		return token, "", false
	}
	if os.Getenv("ISTHMUS_DATA_DIR") == "" && filepath.Dir(file) != usualDataDir && !ownedBy(info, os.Geteuid()) {
		return token, "", false
	}
	token, err = tokenIn(file)
	return token, file, err == nil
}

// usualDataDir is where a server keeps its data when it is not told otherwise. Its parents are the system's.
const usualDataDir = "/var/lib/isthmus"

func ownedBy(info fs.FileInfo, uid int) bool {
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(owner.Uid) == uid
}

// A prover opens connections to a server that proves to read a token.
type prover struct {
	token  redact.String
	file   string // that holds it
	whoami *url.URL
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// connect dials, and returns the connection once its other end has proved itself. Nothing of ours was sent on it but a
// challenge.
func (p prover) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := p.challenge(ctx, conn); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%w; the token of %s is not sent there (--token-file sends it all the same)", err, p.file)
	}
	return conn, nil
}

func (p prover) challenge(ctx context.Context, conn net.Conn) error {
	limit, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	stop := context.AfterFunc(limit, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	random := make([]byte, 32)
	rand.Read(random) // never fails: crypto/rand ends the program instead
	challenge := base64.RawURLEncoding.EncodeToString(random)
	answer, err := p.ask(ctx, conn, challenge)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnproved, err)
	}
	want := api.Proof(p.token, challenge, conn.RemoteAddr())
	if subtle.ConstantTimeCompare([]byte(answer.Proof), []byte(want)) != 1 {
		return errUnproved
	}
	return nil
}

var errUnproved = errors.New("has not proved to be the server of that data directory")

// ask puts one question on the bare connection, and leaves it ready for the next.
func (p prover) ask(ctx context.Context, conn net.Conn, challenge string) (answer api.Whoami, err error) {
	asked := *p.whoami
	asked.RawQuery = url.Values{"challenge": {challenge}}.Encode()
	sent, err := http.NewRequestWithContext(ctx, http.MethodGet, asked.String(), nil)
	if err != nil {
		return answer, err
	}
	if err := sent.Write(conn); err != nil {
		return answer, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, sent)
	if err != nil {
		return answer, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil && (reader.Buffered() > 0 || response.Close) {
		err = errors.New("its answer has another end than that of the question")
	}
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(body, &answer)
}

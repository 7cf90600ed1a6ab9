package state_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

func TestFirstStartWritesTheOperatorsToken(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	text, err := os.ReadFile(filepath.Join(dir, "operator.token"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := s.OperatorToken()
	if err != nil || secret.Reveal() != strings.TrimSpace(string(text)) {
		t.Errorf("OperatorToken: %v", err)
	}
	random, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(secret.Reveal(), "isthmus-op-"))
	if err != nil || len(random) != 32 {
		t.Errorf("secret is no isthmus-op- and 32 bytes: %v", err)
	}
	s = reopen(t, s, dir)
	c, ok := s.Authenticate(secret)
	if !ok || c.Role != snapshot.RoleOperator {
		t.Errorf("after a restart: %+v, %v", c, ok)
	}
	if len(s.Tokens()) != 1 {
		t.Errorf("tokens %+v: want one", s.Tokens())
	}
	os.Remove(filepath.Join(dir, "operator.token"))
	s = reopen(t, s, dir)
	if _, err := s.OperatorToken(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a token that was taken away is back: %v", err)
	}
}

// A start that was cut short after the token and before the store leaves a token that somebody may have read already.
func TestOperatorsTokenOfAnInterruptedStartIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := open(t, dir).OperatorToken()
	if err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	os.WriteFile(filepath.Join(again, "operator.token"), []byte(first.Reveal()), 0o600)
	if _, ok := open(t, again).Authenticate(first); !ok {
		t.Error("the token in the directory is not good")
	}
	odd := t.TempDir()
	os.WriteFile(filepath.Join(odd, "operator.token"), []byte("password"), 0o600)
	if _, err := state.Open(state.Config{Dir: odd}); err == nil || strings.Contains(err.Error(), "password") {
		t.Errorf("err = %v: want a weak token refused, and not shown", err)
	}
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	secrets := map[snapshot.Role]redact.String{}
	for role, proxy := range map[snapshot.Role]snapshot.ProxyID{
		snapshot.RoleOperator: "", snapshot.RoleRead: "", snapshot.RoleMetrics: "", snapshot.RoleProxy: "web-sidecar-proxy",
	} {
		secret, made, err := s.CreateToken(t.Context(), snapshot.Credential{Role: role, Proxy: proxy, Description: "for " + string(role)})
		if err != nil {
			t.Fatal(err)
		}
		secrets[role] = secret
		if text := fmt.Sprintf("%v %+v %#v", secret, made, made); strings.Contains(text, secret.Reveal()) {
			t.Errorf("secret is printed: %s", text)
		}
	}
	s = reopen(t, s, dir)
	for role, secret := range secrets {
		c, ok := s.Authenticate(secret)
		if !ok || c.Role != role || c.Description != "for "+string(role) || (c.Proxy != "") != (role == snapshot.RoleProxy) {
			t.Errorf("%s: %+v, %v", role, c, ok)
		}
	}
	data, _ := os.ReadFile(filepath.Join(dir, "isthmus.db"))
	for role, secret := range secrets {
		if strings.Contains(string(data), strings.TrimPrefix(secret.Reveal(), "isthmus-")) {
			t.Errorf("%s: the secret itself is in the file", role)
		}
	}
	for name, secret := range map[string]string{"empty": "", "prefix": "isthmus-op-", "longer": secrets[snapshot.RoleRead].Reveal() + "A"} {
		if c, ok := s.Authenticate(redact.NewString(secret)); ok {
			t.Errorf("%s: is %+v", name, c)
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	s := open(t, t.TempDir())
	for _, wanted := range []snapshot.Credential{
		{Role: snapshot.RoleNone}, {Role: "root"}, {Role: snapshot.RoleProxy}, {Role: snapshot.RoleOperator, Proxy: "web"}, {Role: snapshot.RoleRead, Bootstrap: true},
	} {
		if secret, _, err := s.CreateToken(t.Context(), wanted); err == nil || !secret.Empty() {
			t.Errorf("made a token of role %q for %q", wanted.Role, wanted.Proxy)
		}
	}
}

func TestRevokedTokenIsGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	secret, made, err := s.CreateToken(t.Context(), snapshot.Credential{Role: snapshot.RoleRead})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeToken(t.Context(), made.Accessor); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"now", "after a restart"} {
		if _, ok := s.Authenticate(secret); ok || len(s.Tokens()) != 1 {
			t.Errorf("%s: still good", when)
		}
		if err := s.RevokeToken(t.Context(), made.Accessor); !errors.Is(err, state.ErrNoToken) {
			t.Errorf("%s: revoked again: %v", when, err)
		}
		s = reopen(t, s, dir)
	}
	first := s.Tokens()[0]
	if err := s.RevokeToken(t.Context(), first.Accessor); !errors.Is(err, state.ErrLastOperator) {
		t.Errorf("the last operator: %v", err)
	}
	if _, _, err := s.CreateToken(t.Context(), snapshot.Credential{Role: snapshot.RoleOperator}); err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeToken(t.Context(), first.Accessor); err != nil {
		t.Errorf("one of two operators: %v", err)
	}
}

package state_test

import (
	"bytes"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

func token(t *testing.T, s *state.Store, role snapshot.Role) (redact.String, string) {
	t.Helper()
	secret, c, err := s.CreateToken(t.Context(), snapshot.Credential{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return secret, c.Accessor
}

func saved(t *testing.T, s *state.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(t *testing.T, s *state.Store, backup []byte) {
	t.Helper()
	if _, err := s.Restore(t.Context(), bytes.NewReader(backup)); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreKeepsRevocations: what was revoked after a backup stays so, here and wherever a later backup goes.
func TestRestoreKeepsRevocations(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	stolen, accessor := token(t, s, snapshot.RoleOperator)
	good, _ := token(t, s, snapshot.RoleRead)
	before := saved(t, s)
	if err := s.RevokeToken(t.Context(), accessor); err != nil {
		t.Fatal(err)
	}
	after := saved(t, s)
	check := func(when string, s *state.Store) {
		t.Helper()
		if _, ok := s.Authenticate(stolen); ok {
			t.Errorf("%s: the revoked token is good", when)
		}
		if _, ok := s.Authenticate(good); !ok {
			t.Errorf("%s: the other token is not", when)
		}
	}
	restore(t, s, before)
	check("restored", s)
	s = reopen(t, s, dir)
	check("restarted", s)
	restore(t, s, before)
	check("restored again", s)
	other := open(t, t.TempDir())
	restore(t, other, after)
	check("elsewhere", other)
	restore(t, other, before)
	check("elsewhere, from the older backup", other)
}

// TestRestoreLeavesAnOperator: when every operator of a backup was revoked since, those of the running store stay.
func TestRestoreLeavesAnOperator(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	before := saved(t, s)
	newer, _ := token(t, s, snapshot.RoleOperator)
	if err := s.RevokeToken(t.Context(), s.Tokens()[0].Accessor); err != nil {
		t.Fatal(err)
	}
	restore(t, s, before)
	if _, ok := s.Authenticate(newer); !ok || len(s.Tokens()) != 1 {
		t.Errorf("tokens %+v: want the operator's that is left", s.Tokens())
	}
}

package main

import (
	"bytes"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
)

// backupWithToken returns a backup that holds an unused peering token.
func backupWithToken(t *testing.T, p *plane) []byte {
	t.Helper()
	if _, err := p.peering.GenerateToken(t.Context(), config.TokenRequest{Peer: "east"}); err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if err := p.store.Snapshot(&backup); err != nil {
		t.Fatal(err)
	}
	return backup.Bytes()
}

// TestRestoreRetiresPeeringTokens: a peering token that a backup holds unused is not good after a restore, whether the running server knows it or not.
func TestRestoreRetiresPeeringTokens(t *testing.T) {
	cfg := planeConfig(t)
	p := opened(t, cfg)
	backup := backupWithToken(t, p)
	empty := planeConfig(t)
	for name, restoring := range map[string]config.Server{"the same server": cfg, "an empty one": empty} {
		_ = p.close()
		p = opened(t, restoring)
		if _, err := p.store.Restore(t.Context(), bytes.NewReader(backup)); err != nil {
			t.Fatal(err)
		}
		_ = p.close()
		p = opened(t, restoring)
		if tokens := p.peering.Tokens(); len(tokens) != 1 || tokens[0].Revoked.IsZero() {
			t.Errorf("%s: %+v, want one token that is revoked", name, tokens)
		}
	}
}

// TestRestoreKeepsWhatIsKnownOfPeeringTokens: what the running server knows of a token's end is not lost.
func TestRestoreKeepsWhatIsKnownOfPeeringTokens(t *testing.T) {
	cfg := planeConfig(t)
	p := opened(t, cfg)
	backup := backupWithToken(t, p)
	if err := p.peering.RevokeToken(t.Context(), p.peering.Tokens()[0].ID); err != nil {
		t.Fatal(err)
	}
	known := p.peering.Tokens()[0]
	if _, err := p.store.Restore(t.Context(), bytes.NewReader(backup)); err != nil {
		t.Fatal(err)
	}
	_ = p.close()
	if got := opened(t, cfg).peering.Tokens(); len(got) != 1 || !got[0].Revoked.Equal(known.Revoked) {
		t.Errorf("%+v, want %+v", got, known)
	}
}

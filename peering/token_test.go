package peering

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func decodeJSON(t testing.TB, secret redact.String) map[string]any {
	text, err := base64.StdEncoding.DecodeString(secret.Reveal())
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(text, &fields))
	return fields
}

// The form that servers of both dialects read, with two keys of ours that they pass over.
func TestTokenHasConsulsForm(t *testing.T) {
	east := newCluster(t, "east")
	fields := decodeJSON(t, east.token("west"))
	peer := east.store.World().Peer("west")
	require.Len(t, fields["CA"], 1)
	require.Nil(t, fields["ManualServerAddresses"])
	require.Contains(t, fields, "ManualServerAddresses")
	require.Equal(t, []any{east.Advertise[0]}, fields["ServerAddresses"])
	require.Equal(t, "server.dc1.peering."+east.trustDomain, fields["ServerName"])
	require.Equal(t, peer.ID, fields["PeerID"])
	require.Len(t, fields["EstablishmentSecret"], 36)
	require.Equal(t, map[string]any{"Partition": "", "Datacenter": "dc1"}, fields["Remote"])
	expires, err := time.Parse(time.RFC3339, fmt.Sprint(fields["Expires"]))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), expires, time.Minute)

	secret, err := east.GenerateToken(t.Context(), config.TokenRequest{
		Peer: "west", Addresses: []string{"edge.example.com:443"}, TTL: time.Minute, Meta: map[string]string{"env": "test"},
	})
	require.NoError(t, err)
	fields = decodeJSON(t, secret)
	require.Equal(t, []any{"edge.example.com:443"}, fields["ManualServerAddresses"])
	require.Equal(t, peer.ID, fields["PeerID"], "the same peering")
	require.Equal(t, map[string]string{"env": "test"}, east.store.World().Peer("west").Meta)
	require.WithinDuration(t, time.Now().Add(time.Minute), east.Tokens()[1].Expires, 2*time.Second)

	contents, err := east.Inspect(secret)
	require.NoError(t, err)
	require.Equal(t, east.trustDomain, contents.TrustDomain)
	require.Equal(t, "1.14", contents.Dialect)
	require.Equal(t, []string{"edge.example.com:443"}, contents.ManualAddresses)
	require.NotContains(t, fmt.Sprintf("%+v", contents), fields["EstablishmentSecret"])
}

func TestTokensThatAreNotGenerated(t *testing.T) {
	east := newCluster(t, "east")
	for _, tc := range []struct {
		request config.TokenRequest
		text    string
	}{
		{config.TokenRequest{Peer: "*"}, "cannot use wildcard '*' in peer"},
		{config.TokenRequest{Peer: "West"}, "peer name is"},
		{config.TokenRequest{Peer: "west", Addresses: []string{"nowhere"}}, "want host:port"},
		{config.TokenRequest{Peer: "west", TTL: -1}, "want a positive one"},
		{config.TokenRequest{Peer: "west", TTL: 720*time.Hour + time.Second}, "want at most 720h, which is 30 days"},
	} {
		_, err := east.GenerateToken(t.Context(), tc.request)
		require.ErrorContains(t, err, tc.text)
		require.Equal(t, 400, httpStatus(t, err))
	}
	require.Empty(t, east.store.World().Peers())
	unreachable := newCluster(t, "unreachable", func(c *Config) { c.Advertise = nil })
	_, err := unreachable.GenerateToken(t.Context(), config.TokenRequest{Peer: "west"})
	require.ErrorContains(t, err, "--peering-advertise")
}

func TestRevokedTokens(t *testing.T) {
	east := newCluster(t, "east")
	require.Equal(t, 404, httpStatus(t, east.RevokeToken(t.Context(), "nothing")))
	client, decoded := rawClient(t, east, east.token("west"))
	exchange(t, client, decoded)
	err := east.RevokeToken(t.Context(), decoded.ID)
	require.ErrorContains(t, err, "was used at ")
	require.Equal(t, 410, httpStatus(t, err))
}

// Tokens that are no good any more are remembered, for the error they give, and not for ever.
func TestSpentTokensAreForgottenInTheEnd(t *testing.T) {
	east := newCluster(t, "east")
	for range maxSpentTokens + 20 {
		east.token("west")
	}
	require.LessOrEqual(t, len(east.Tokens()), maxSpentTokens+2)
	good := 0
	for _, info := range east.Tokens() {
		if info.Replaced.IsZero() {
			good++
		}
	}
	require.Equal(t, 1, good)
}

// An answer about a peering that is not there costs a hash too.
func TestHashesAreComparedWhole(t *testing.T) {
	good := hashOf("secret")
	for _, tc := range []struct {
		stored hash
		secret string
		is     bool
	}{{good, "secret", true}, {good, "Secret", false}, {good, "", false}, {nil, "secret", false}, {nil, "", false}, {good[:31], "secret", false}, {append(good[:32:32], 0), "secret", false}} {
		require.Equal(t, tc.is, tc.stored.is(tc.secret), "%x of %q", tc.stored, tc.secret)
	}
	fastest := map[*hash]time.Duration{}
	known, unknown := good, hash(nil)
	for range 20 { // the least of many is what the work itself takes
		for _, stored := range []*hash{&known, &unknown} {
			began := time.Now()
			for range 1000 {
				stored.is("secret")
			}
			if took := time.Since(began); fastest[stored] == 0 || took < fastest[stored] {
				fastest[stored] = took
			}
		}
	}
	require.Less(t, fastest[&known], 4*fastest[&unknown], "a comparison with nothing is much faster")
}

// Tokens of the other dialect's servers, and of those that other tools wrote.
func TestTokensOfOthersAreRead(t *testing.T) {
	encode := func(text string) redact.String {
		return redact.NewString(base64.StdEncoding.EncodeToString([]byte(text)))
	}
	contents, err := InspectToken(encode(`{"CA":null,"ServerAddresses":["10.0.0.1:8502"],"ServerName":"server.dc5.consul","PeerID":"a","EstablishmentSecret":"b","Odd":1}`))
	require.NoError(t, err)
	require.Equal(t, "1.13", contents.Dialect)
	require.Empty(t, contents.TrustDomain)
	require.Empty(t, contents.ID)
	require.True(t, contents.Expires.IsZero())
	for _, text := range []string{`[]`, `{"PeerID":1}`, `{"PeerID":"a","EstablishmentSecret":"b"}`} {
		_, err := InspectToken(encode(text))
		require.Error(t, err)
	}
	_, err = InspectToken(redact.NewString(string(make([]byte, 300<<10))))
	require.Error(t, err)
}

func FuzzToken(f *testing.F) {
	f.Add("eyJQZWVySUQiOiJhIn0=")
	f.Add(token{
		CA: []string{bareRoot(f, true)}, ServerAddresses: []string{"10.0.0.1:8503"}, ServerName: "server.dc1.peering.x.consul",
		PeerID: "id", EstablishmentSecret: "very-secret-indeed", Remote: &tokenRemote{Datacenter: "dc1"},
	}.encode().Reveal())
	f.Fuzz(func(t *testing.T, text string) {
		decoded, err := decodeToken(redact.NewString(text))
		if err != nil {
			require.NotContains(t, err.Error(), "very-secret-indeed")
			return
		}
		require.NotEmpty(t, decoded.PeerID)
		require.NotEmpty(t, targets(&snapshot.Peer{ServerAddresses: decoded.ServerAddresses, ManualAddresses: decoded.ManualServerAddresses}))
		again, err := decodeToken(decoded.encode())
		require.NoError(t, err)
		require.Equal(t, decoded, again)
	})
}

package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/config"
)

func worldOf(events ...Event) *World { return NewWorld().With(1, events) }

func us(allow bool) Event {
	return Event{Key: NewKey(TableCluster), Object: &Cluster{TrustDomain: "us.consul", Datacenter: "dc1", NodeName: "n1", DefaultAllow: allow}}
}

func intentions(dest string, sources ...config.SourceIntention) *config.ServiceIntentions {
	return &config.ServiceIntentions{Name: dest, Sources: sources}
}

func allow(name, peer string) config.SourceIntention {
	return config.SourceIntention{Name: name, Peer: peer, Action: config.Allow}
}

func deny(name, peer string) config.SourceIntention {
	return config.SourceIntention{Name: name, Peer: peer, Action: config.Deny}
}

// admitted is what Allowed means.
func admitted(a Allowed, name string) bool { return slices.Contains(a.Names, name) != a.AllExcept }

// oracle says who may call in the words of Consul's documentation: of all intentions that match, the one with the highest
// precedence.
func oracle(w *World, source, peer, dest string) (allowed bool, best int) {
	allowed = w.Cluster().DefaultAllow
	for _, entry := range w.Entries(config.KindServiceIntentions) {
		intentions := entry.Value.(*config.ServiceIntentions)
		if intentions.Name != dest && intentions.Name != config.Wildcard {
			continue
		}
		for _, s := range intentions.Sources {
			if s.Peer != peer || s.Name != source && s.Name != config.Wildcard {
				continue
			}
			rank := map[[2]bool]int{{true, true}: 9, {true, false}: 8, {false, true}: 6, {false, false}: 5}
			if p := rank[[2]bool{intentions.Name != config.Wildcard, s.Name != config.Wildcard}]; p > best {
				best, allowed = p, s.Action == config.Allow
			}
		}
	}
	return allowed, best
}

func TestCompileAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := []Event{us(rapid.Bool().Draw(t, "default"))}
		for _, dest := range []string{"db", "api", config.Wildcard} {
			e := intentions(dest)
			for _, peer := range []string{"", "east", "west"} {
				for _, name := range []string{"web", "job", "api", config.Wildcard} {
					switch rapid.IntRange(0, 3).Draw(t, "action") {
					case 0:
						e.Sources = append(e.Sources, allow(name, peer))
					case 1:
						e.Sources = append(e.Sources, deny(name, peer))
					}
				}
			}
			events = append(events, entry(e))
		}
		w := worldOf(events...)
		for _, peer := range []string{"", "east", "west", "unknown"} {
			for _, source := range []string{"web", "job", "api", "other", "WEB"} {
				want, precedence := oracle(w, source, peer, "db")
				compiled := Compile(w, "db", peer)
				if got := admitted(compiled, source); got != want {
					t.Fatalf("%s of %q to db: %+v admits %v, want %v", source, peer, compiled, got, want)
				}
				decision := Decide(w, source, peer, "db")
				if decision.Allowed != want || decision.Precedence != precedence || decision.Default() != (precedence == 0) {
					t.Fatalf("%s of %q to db: %+v, want %v by %d", source, peer, decision, want, precedence)
				}
			}
		}
	})
}

func TestCompile(t *testing.T) {
	for _, test := range []struct {
		reason  string
		allow   bool
		entries []*config.ServiceIntentions
		peer    string
		want    Allowed
	}{
		{"nothing written, default deny", false, nil, "", Allowed{}},
		{"nothing written, default allow", true, nil, "east", Allowed{AllExcept: true}},
		{"a local wildcard does not cover peers", false,
			[]*config.ServiceIntentions{intentions("db", allow("*", ""))}, "east", Allowed{}},
		{"a peer's wildcard covers that peer only", false,
			[]*config.ServiceIntentions{intentions("db", allow("*", "east"))}, "west", Allowed{}},
		{"an exact deny stands against a wildcard allow", false,
			[]*config.ServiceIntentions{intentions("db", allow("*", "east"), deny("web", "east"))}, "east",
			Allowed{AllExcept: true, Names: []string{"web"}}},
		{"a wildcard source of the exact destination outranks an exact source of the wildcard one", false,
			[]*config.ServiceIntentions{intentions("db", deny("*", "")), intentions("*", allow("web", ""))}, "", Allowed{}},
		{"an action that is not known denies", true,
			[]*config.ServiceIntentions{intentions("db", config.SourceIntention{Name: "web"})}, "",
			Allowed{AllExcept: true, Names: []string{"web"}}},
		{"of two that contradict each other the one that denies counts", false,
			[]*config.ServiceIntentions{intentions("db", allow("web", ""), deny("web", ""), allow("web", ""), deny("*", ""), allow("*", ""))}, "",
			Allowed{}},
	} {
		events := []Event{us(test.allow)}
		for _, e := range test.entries {
			events = append(events, entry(e))
		}
		if got := Compile(worldOf(events...), "db", test.peer); dump(got) != dump(test.want) {
			t.Errorf("%s: %+v, want %+v", test.reason, got, test.want)
		}
	}
}

// many returns an entry that allows everybody of a scope but n names.
func many(dest, peer string, n, length int) *config.ServiceIntentions {
	e := intentions(dest, allow("*", peer))
	for i := range n {
		e.Sources = append(e.Sources, deny(fmt.Sprintf("%0*d", length, i), peer))
	}
	return e
}

func TestTooManyDenied(t *testing.T) {
	for _, test := range []struct {
		names, length int
		ok            bool
	}{{1000, 40, true}, {1001, 4, false}, {1000, 41, false}} {
		e := many("db", "east", test.names, test.length)
		err := CheckIntentions(worldOf(us(false)), e)
		if (err == nil) != test.ok {
			t.Errorf("%d names of %d bytes: %v", test.names, test.length, err)
		}
		got := Compile(worldOf(us(false), entry(e)), "db", "east")
		if got.Empty() == test.ok {
			t.Errorf("%d names of %d bytes: empty is %v: want nobody admitted when it is refused", test.names, test.length, got.Empty())
		}
	}
}

// Two entries that are small enough by themselves are not when one destination falls under both.
func TestTooManyDeniedTogether(t *testing.T) {
	exact := many("db", "east", 600, 4)
	exact.Sources = exact.Sources[1:] // without the wildcard: the rest is decided by the entry of the wildcard destination
	all := many("*", "east", 600, 5)
	if err := CheckIntentions(worldOf(us(false), entry(exact)), all); err == nil || !strings.Contains(err.Error(), "service-intentions db") {
		t.Errorf("wildcard destination last: %v", err)
	}
	if err := CheckIntentions(worldOf(us(false), entry(all)), exact); err == nil {
		t.Error("exact destination last: want it refused")
	}
	if err := CheckIntentions(worldOf(us(false), entry(all)), intentions("api", deny("a", "east"), deny("a", ""))); err != nil {
		t.Error(err)
	}
}

func TestMatch(t *testing.T) {
	w := worldOf(us(false),
		entry(intentions("db", allow("web", ""), deny("*", ""), allow("web", "east"), allow("api", ""))),
		entry(intentions("*", allow("*", ""), allow("web", ""))),
		entry(intentions("api", allow("web", ""), deny("web", "east"))))
	list := func(found []Intention) string {
		var lines []string
		for _, i := range found {
			lines = append(lines, fmt.Sprintf("%d %s@%s>%s", i.Precedence, i.Name, i.Peer, i.Destination))
		}
		return strings.Join(lines, ", ")
	}
	if got, want := list(Match(w, "db")), "9 api@>db, 9 web@>db, 9 web@east>db, 8 *@>db, 6 web@>*, 5 *@>*"; got != want {
		t.Errorf("match db: %s, want %s", got, want)
	}
	if got, want := list(Match(w, "*")), "6 web@>*, 5 *@>*"; got != want {
		t.Errorf("match *: %s, want %s", got, want)
	}
	if got, want := list(MatchSource(w, "web", "")), "9 web@>api, 9 web@>db, 8 *@>db, 6 web@>*, 5 *@>*"; got != want {
		t.Errorf("match source web: %s, want %s", got, want)
	}
}

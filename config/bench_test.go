package config

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkParseExports reads 5,000 exports to three peers, about as much as a file may hold.
func BenchmarkParseExports(b *testing.B) {
	var body strings.Builder
	body.WriteString("Kind = \"exported-services\"\n")
	for i := range 5000 {
		fmt.Fprintf(&body, "Services { Name = \"service-%d\" Consumers = [ { Peer = \"east\" }, { Peer = \"west\" }, { Peer = \"north\" } ] }\n", i)
	}
	for b.Loop() {
		if _, err := ParseEntry("f.hcl", []byte(body.String())); err != nil {
			b.Fatal(err)
		}
	}
}

// Command testcount turns `go test -json` on its standard input into what a person wants to read: a line for each package
// and slow test, everything a failed test printed, each promise with its time, and at the end the counts. It exits with
// 1 when a test failed or was skipped, or none ran: nothing is skipped here.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	ImportPath                    string // of build output
}

type key struct{ pkg, test string }

type counter struct {
	output                  map[key][]string
	passed, failed, skipped int
	brokenPackages          int
}

const slow = 5 // seconds from which a test gets a line of its own

func main() {
	c := &counter{output: map[key][]string{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // not from a test: the build's own words
			continue
		}
		c.see(e)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	if err := lines.Err(); err != nil || c.failed+c.skipped+c.brokenPackages > 0 || c.passed == 0 {
		os.Exit(1)
	}
}

func (c *counter) see(e event) {
	at := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "output":
		c.output[at] = append(c.output[at], e.Output)
		if _, promise, ok := strings.Cut(e.Output, "promise: "); ok {
			fmt.Printf("  %-40s %s", e.Test, promise)
		}
	case "pass", "skip", "fail":
		c.ended(e, at)
		delete(c.output, at)
	}
}

func (c *counter) ended(e event, at key) {
	if e.Test == "" {
		c.packageEnded(e, at)
		return
	}
	switch e.Action {
	case "pass":
		c.passed++
	case "skip":
		c.skipped++
	case "fail":
		c.failed++
	}
	if e.Action != "pass" {
		fmt.Printf("%s %s %s\n%s", strings.ToUpper(e.Action), e.Package, e.Test, strings.Join(c.output[at], ""))
	} else if e.Elapsed >= slow && !strings.Contains(e.Test, "/") {
		fmt.Printf("  %-40s %.1fs\n", e.Test, e.Elapsed)
	}
}

func (c *counter) packageEnded(e event, at key) {
	if e.Action == "fail" {
		c.brokenPackages++
		fmt.Print(strings.Join(c.output[at], ""))
	}
	if e.Action != "skip" { // a package without tests
		fmt.Printf("%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
	}
}

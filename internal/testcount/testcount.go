// Command testcount turns `go test -json` on its standard input into what a person wants to read: a line for each package
// and slow test, everything a failed test printed, each promise with its time, and at the end the counts. It exits with
// 1 when a test failed or was skipped, or none ran: nothing is skipped here. A package whose process the race detector's own
// runtime brought down is run once more, since that says nothing of the package.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
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
	crashed                 []string // packages to run once more
}

const slow = 5 // seconds from which a test gets a line of its own

func main() {
	c := &counter{output: map[key][]string{}}
	err := c.read(os.Stdin)
	if len(c.crashed) > 0 && err == nil {
		err = c.again()
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	if err != nil {
		fmt.Println(err)
	}
	if err != nil || c.failed+c.skipped+c.brokenPackages+len(c.crashed) > 0 || c.passed == 0 {
		os.Exit(1)
	}
}

func (c *counter) read(from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // not from a test: the build's own words
			continue
		}
		c.see(e)
	}
	return lines.Err()
}

// again runs the packages that crashed once more. One that crashes again stays in the list.
func (c *counter) again() error {
	packages := c.crashed
	c.crashed = nil
	fmt.Printf("the race detector crashed, not the tests: once more %s\n", strings.Join(packages, " "))
	command := exec.Command("go", append([]string{"test", "-race", "-timeout", "20m", "-json"}, packages...)...)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	err = c.read(output)
	_ = command.Wait() // what it found was read
	return err
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
		printed := c.printed(e.Package)
		fmt.Print(printed)
		if raceCrash(printed) {
			c.crashed = append(c.crashed, e.Package)
		} else {
			c.brokenPackages++
		}
	}
	if e.Action != "skip" { // a package without tests
		fmt.Printf("%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
	}
}

// raceCrash tells whether a process died inside the race detector's runtime, which is C++: Go code that dereferences nil
// panics, and its trace ends in Go.
func raceCrash(printed string) bool {
	return strings.Contains(printed, "SIGSEGV") && !strings.Contains(printed, "panic: ") && insideRace.MatchString(printed)
}

var insideRace = regexp.MustCompile(`__tsan|__sanitizer|StackDepot|runtime\.race(call|gostart|acquire|release)`)

// printed returns what a package printed outside its tests and in those that did not end.
func (c *counter) printed(pkg string) string {
	var text strings.Builder
	for at, lines := range c.output {
		if at.pkg == pkg {
			text.WriteString(strings.Join(lines, ""))
		}
	}
	return text.String()
}

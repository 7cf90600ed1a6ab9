package e2e

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestMain fails a whole run in which a test that docs/promises.md names did not run.
func TestMain(m *testing.M) {
	code := m.Run()
	if filter := flag.Lookup("test.run"); code == 0 && (filter == nil || filter.Value.String() == "") {
		if missing := promisesNotRun(); len(missing) > 0 {
			fmt.Printf("docs/promises.md names tests that did not run: %v\n", missing)
			code = 1
		}
	}
	lab.StopEngine()
	os.Exit(code)
}

func promisesNotRun() []string {
	text, err := os.ReadFile("../docs/promises.md")
	if err != nil {
		return []string{err.Error()}
	}
	named := regexp.MustCompile(`\bTestPromise\w+`).FindAllString(string(text), -1)
	missing := []string{}
	for _, name := range named {
		if !lab.Ran(name) {
			missing = append(missing, name)
		}
	}
	if len(named) == 0 {
		missing = append(missing, "(none named)")
	}
	return missing
}

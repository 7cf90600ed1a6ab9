package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// tourLimit is how long the whole tour may take: each of its waits is bounded by itself, but for the calls.
const tourLimit = 3 * time.Minute

// tourBlock is one block of commands of the README, and the lines that it says they print.
type tourBlock struct{ commands, prints string }

var (
	blockPattern = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	portPattern  = regexp.MustCompile(`\b[89]\d{3}\b`)
)

// TestReadmeTour types the README's tour into a shell, on ports that are free, and looks for every line that the README says
// it prints; … stands for anything. Afterwards nothing listens any more.
func TestReadmeTour(t *testing.T) {
	l := lab.New(t)
	host := l.Host("tour")
	text, err := os.ReadFile(filepath.Join(lab.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	tour, ports := freshPorts(t, host, section(t, string(text), "## Five minutes by hand"))
	blocks := tourBlocks(tour)
	if len(blocks) < 5 {
		t.Fatalf("README.md: the tour has %d blocks: want all of them", len(blocks))
	}
	printed := playTour(t, l, host, blocks)
	for i, block := range blocks {
		for line := range strings.Lines(block.prints) {
			if line = strings.TrimRight(line, "\n"); !linePattern(line).MatchString(printed[i]) {
				t.Errorf("README.md: the tour's\n%sdoes not print\n%s\nbut\n%s", block.commands, line, printed[i])
			}
		}
	}
	for _, port := range ports {
		if conn, err := host.Dial(t.Context(), "127.0.0.1:"+port); err == nil {
			_ = conn.Close() // it is one too many in any case
			t.Errorf("after the tour something still listens on port %s", port)
		}
	}
}

// section returns what stands below a heading.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(text, "\n"+heading+"\n")
	if !found {
		t.Fatalf("README.md: has no %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// freshPorts puts a free port in the place of each that the text names.
func freshPorts(t *testing.T, host *lab.Host, text string) (string, []string) {
	t.Helper()
	fresh, taken, ports := map[string]string{}, map[string]bool{}, []string{}
	text = portPattern.ReplaceAllStringFunc(text, func(named string) string {
		for fresh[named] == "" {
			port, err := host.FreePort("127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			if !taken[port] {
				fresh[named], taken[port] = port, true
				ports = append(ports, port)
			}
		}
		return fresh[named]
	})
	return text, ports
}

// tourBlocks returns the blocks of commands, each with the plain block that follows it.
func tourBlocks(text string) []tourBlock {
	var blocks []tourBlock
	for _, match := range blockPattern.FindAllStringSubmatch(text, -1) {
		if match[1] == "sh" {
			blocks = append(blocks, tourBlock{commands: match[2]})
		} else if len(blocks) > 0 {
			blocks[len(blocks)-1].prints = match[2]
		}
	}
	return blocks
}

// linePattern matches a line that the README shows, in as many spaces as it takes.
func linePattern(line string) *regexp.Regexp {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*")
	return regexp.MustCompile(`(?m)^` + regexp.MustCompile(` +`).ReplaceAllString(pattern, ` +`) + `$`)
}

const tourMark = "=== end of block"

// playTour runs the blocks in one shell, as a person would, and returns what each printed.
func playTour(t *testing.T, l *lab.Lab, host *lab.Host, blocks []tourBlock) []string {
	t.Helper()
	if err := os.Mkdir(l.Path("bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(l.Binary, l.Path("bin/isthmus")); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, block := range blocks {
		fmt.Fprintf(&script, "%secho '%s'\n", block.commands, tourMark)
	}
	cmd := host.Command("bash", "-O", "expand_aliases", l.Write("tour.sh", script.String()))
	var output bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.Dir, &output, &output
	cmd.Env = append(os.Environ(), "TMPDIR="+l.Dir, "XDG_RUNTIME_DIR="+l.Dir, "ISTHMUS_ENVOY="+l.Envoy)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), tourLimit)
	defer cancel()
	// Whatever still runs when the time is over goes with the shell; an Envoy goes with who runs it.
	defer context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })()
	err := cmd.Wait()
	printed := strings.Split(output.String(), tourMark+"\n")
	if err != nil || len(printed) != len(blocks)+1 {
		t.Fatalf("the tour ended after %d of %d blocks: %v\n%s", len(printed)-1, len(blocks), err, output.String())
	}
	return printed
}

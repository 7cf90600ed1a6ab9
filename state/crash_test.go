package state_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

// childDir makes this test binary a writer that commits until it is killed.
const childDir = "ISTHMUS_STATE_TEST_DIR"

// child commits pairs of entries and prints the number of each pair that was acknowledged.
func child(dir string) {
	s, err := state.Open(state.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	first := len(s.World().Entries("")) / 2
	for i := first; ; i++ {
		n := strconv.Itoa(i)
		if _, err := s.Commit(context.Background(), defaults("a"+n, "tcp"), defaults("b"+n, "tcp")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acknowledged := -1
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for target := acknowledged + 20; acknowledged < target && lines.Scan(); {
			if acknowledged, err = strconv.Atoi(strings.TrimSpace(lines.Text())); err != nil {
				t.Fatalf("child: %s", lines.Text())
			}
		}
		cmd.Process.Kill()
		for lines.Scan() { // acknowledged between our decision and the kill
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				acknowledged = n
			}
		}
		cmd.Wait()
		s := open(t, dir)
		checkPairs(t, s.World(), acknowledged)
		if _, err := s.VerifyAudit(); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

func checkPairs(t *testing.T, w *snapshot.World, acknowledged int) {
	t.Helper()
	for i := range acknowledged + 3 {
		n := strconv.Itoa(i)
		a, b := protocolOf(w, "a"+n), protocolOf(w, "b"+n)
		if a != b {
			t.Errorf("pair %d: half of it is there", i)
		}
		if i <= acknowledged && a != "tcp" {
			t.Errorf("pair %d was acknowledged and is gone", i)
		}
	}
}

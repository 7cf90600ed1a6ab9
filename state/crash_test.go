package state_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

// childDir and childTask make this test binary a process that works on a store.
const (
	childDir  = "ISTHMUS_STATE_TEST_DIR"
	childTask = "ISTHMUS_STATE_TEST_TASK"
)

var children = map[string]func(dir string){"write": writeUntilKilled, "full": writeUntilFull}

func childProcess(task, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childTask+"="+task)
	return cmd
}

func mustOpen(dir string) *state.Store {
	s, err := state.Open(state.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return s
}

// writeUntilKilled commits pairs of entries and prints the number of each pair that was acknowledged.
func writeUntilKilled(dir string) {
	s := mustOpen(dir)
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
		cmd := childProcess("write", dir)
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

// writeUntilFull forbids files to grow, writes until that hurts, and then allows it again.
func writeUntilFull(dir string) {
	s := mustOpen(dir)
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println(err)
	}
	info, _ := os.Stat(filepath.Join(dir, "isthmus.db"))
	full := syscall.Rlimit{Cur: uint64(info.Size()), Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		fmt.Println(err)
	}
	large := defaults("large", strings.Repeat("x", 1<<20))
	before := s.World()
	if _, err := s.Commit(context.Background(), defaults("small", "tcp"), large); err == nil || s.World() != before {
		fmt.Println("a write that had no room was acknowledged or published:", err)
	}
	if _, err := s.Commit(context.Background(), defaults("small", "http")); err != nil {
		fmt.Println("a write that had room:", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println(err)
	}
	if _, err := s.Commit(context.Background(), large); err != nil {
		fmt.Println("once there was room:", err)
	}
	if _, err := s.VerifyAudit(); err != nil {
		fmt.Println(err)
	}
}

func TestFullDiskFailsTheWriteOnly(t *testing.T) {
	dir := t.TempDir()
	out, err := childProcess("full", dir).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	w := open(t, dir).World()
	if protocolOf(w, "small") != "http" || len(protocolOf(w, "large")) != 1<<20 {
		t.Error("after a restart, what was acknowledged is not there")
	}
}

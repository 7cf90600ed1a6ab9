package bootstrap

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestMain is also a parent to kill: with RUN_CHILD it runs that binary and nothing else.
func TestMain(m *testing.M) {
	binary := os.Getenv("RUN_CHILD")
	if binary == "" {
		os.Exit(m.Run())
	}
	code, err := Process{Binary: binary, Stdout: os.Stdout, Stderr: os.Stderr}.Run(context.Background())
	if err != nil {
		panic(err)
	}
	os.Exit(code)
}

// When we are killed and can hand on nothing any more, Envoy ends all the same.
func TestChildEndsWithItsParent(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "RUN_CHILD="+script(t, filepath.Join(t.TempDir(), "envoy"), waiting))
	parent.Stdout = writer
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(reader)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	if err := reader.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(lines); err != nil {
		t.Errorf("the child still holds its output: %v", err)
	}
}

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	bootstrap "github.com/isthmus-mesh/isthmus/envoy-bootstrap"
	"github.com/isthmus-mesh/isthmus/internal/session"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"isthmus": main})
}

// patience is how long a script waits for what must happen.
const patience = time.Minute

// TestScripts runs whole sessions of the command line, against real servers and Envoys. A new one: a file in
// testdata/script whose comment says what it shows; UPDATE_GOLDEN=1 rewrites the outputs that `cmp` compares. Beyond the
// usual commands there are
//
//	cluster NAME              starts a server in $WORK/NAME and asks it from now on; its ports are $NAME_HTTP and $NAME_XDS
//	use NAME                  asks that server from now on, with its operator's token
//	exits CODE COMMAND…       runs a command that must end with an exit code
//	eventually REGEX COMMAND… runs a command until it prints what matches
//	mode OCTAL FILE           compares a file's mode
func TestScripts(t *testing.T) {
	envoy, err := bootstrap.Find("")
	if err != nil {
		t.Fatalf("%v; `make envoy` gets one", err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_GOLDEN") != "",
		Setup: func(env *testscript.Env) error {
			// Nothing listens on port 1: a verb that asks a server without having been told which fails at once.
			env.Setenv("ISTHMUS_HTTP_ADDR", "127.0.0.1:1")
			env.Setenv("ISTHMUS_ENVOY", envoy)
			// Not below $WORK: a socket's path must be short.
			runtime, err := os.MkdirTemp("", "isthmus")
			env.Setenv("XDG_RUNTIME_DIR", runtime)
			env.Defer(func() { _ = os.RemoveAll(runtime) })
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cluster": startCluster, "use": useCluster, "exits": session.Exits, "eventually": session.Eventually(patience), "mode": fileMode,
		},
	})
}

func startCluster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cluster NAME")
	}
	name, ports := args[0], freePorts(3)
	for i := range ports {
		ports[i] = "127.0.0.1:" + ports[i]
	}
	command := exec.Command("isthmus", "serve", "--data-dir", ts.MkAbs(name), "--node-name", name, "--datacenter", "dc1",
		"--http-addr", ports[0], "--xds-addr", ports[1], "--peering-addr", ports[2], "--allow-peer-addresses", "127.0.0.0/8")
	ready := session.Start(ts, name, command, "http://"+ports[0]+"/readyz")
	ts.Setenv(name+"_HTTP", ports[0])
	ts.Setenv(name+"_XDS", ports[1])
	useCluster(ts, false, args)
	session.Poll(ts, patience, name+" to be ready", ready)
}

func useCluster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: use NAME")
	}
	ts.Setenv("ISTHMUS_HTTP_ADDR", ts.Getenv(args[0]+"_HTTP"))
	ts.Setenv("ISTHMUS_DATA_DIR", ts.MkAbs(args[0]))
}

func fileMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// TestScriptsSayWhatTheyShow keeps every script's first line a comment.
func TestScriptsSayWhatTheyShow(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("scripts: %v, %v", scripts, err)
	}
	for _, name := range scripts {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		scanner := bufio.NewScanner(file)
		if !scanner.Scan() || !strings.HasPrefix(scanner.Text(), "# ") {
			t.Errorf("%s: want a first line that says what it shows", name)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

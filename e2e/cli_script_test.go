package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
	"github.com/isthmus-mesh/isthmus/internal/session"
)

// TestConsulCLI runs sessions of the real `consul` command, each against Isthmus and against a real Consul, so that what
// is said to be the same is the same.
func TestConsulCLI(t *testing.T) { sessions(t, "testdata/consul-cli") }

// TestIsthmusCLI runs sessions of our own command's verbs that Consul has, in the same way.
func TestIsthmusCLI(t *testing.T) { sessions(t, "testdata/isthmus-cli") }

// The two programs that a session's server may be, which are conditions of its script too: [isthmus], [consul].
const isthmusServer, consulServer = "isthmus", "consul"

// sessionPatience is how long a script waits for what must happen.
const sessionPatience = 20 * time.Second

// sessions runs the scripts of a folder. Beyond the usual commands there are
//
//	server NAME               starts a server and asks it from now on; $NAME is its address and $NAME_XDS that of its xDS
//	use NAME                  asks that server from now on, with an operator's token
//	exits CODE COMMAND…       runs a command that must end with an exit code
//	eventually REGEX COMMAND… runs a command until it prints what matches
//	save REGEX VARIABLE       keeps what the first group of a regular expression matches in the last command's output
func sessions(t *testing.T, dir string) {
	bin := programs(t)
	for _, kind := range []string{isthmusServer, consulServer} {
		t.Run(kind, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 dir,
				RequireExplicitExec: true,
				UpdateScripts:       os.Getenv("UPDATE_GOLDEN") != "",
				Condition: func(condition string) (bool, error) {
					if condition != isthmusServer && condition != consulServer {
						return false, fmt.Errorf("unknown condition %q", condition)
					}
					return condition == kind, nil
				},
				Setup: func(env *testscript.Env) error {
					env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
					env.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1") // nothing listens there
					env.Setenv("ISTHMUS_ENVOY", lab.EnvoyBinary(t))
					env.Setenv("SERVER", kind)
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"server": startServer, "use": useServer, "exits": session.Exits, "eventually": session.Eventually(sessionPatience), "save": saveMatch,
				},
			})
		})
	}
}

// programs returns a folder with both commands in it.
func programs(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(lab.Root(t), "e2e", "get-consul.sh"), lab.Consul115)
	cmd.Stderr = os.Stderr
	consul, err := cmd.Output()
	if err != nil {
		t.Fatalf("consul %s: %v", lab.Consul115, err)
	}
	dir := t.TempDir()
	for name, program := range map[string]string{isthmusServer: lab.New(t).Binary, consulServer: strings.TrimSpace(string(consul))} {
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func startServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: server NAME")
	}
	name, kind := args[0], ts.Getenv("SERVER")
	http, xds, command := isthmusCommand(ts, name)
	ready := "/readyz"
	if kind == consulServer {
		http, xds, command = consulCommand(name)
		ready = "/v1/connect/ca/roots"
	}
	program, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], kind))
	ts.Check(err)
	started := session.Start(ts, name, exec.Command(program, command...), "http://"+http+ready)
	ts.Setenv(name, http)
	ts.Setenv(name+"_XDS", xds)
	useServer(ts, false, args)
	session.Poll(ts, sessionPatience, name+" to be ready", started)
}

func isthmusCommand(ts *testscript.TestScript, name string) (http, xds string, args []string) {
	ports := freePorts(3)
	http, xds = "127.0.0.1:"+ports[0], "127.0.0.1:"+ports[1]
	return http, xds, []string{"serve", "--data-dir", ts.MkAbs(name), "--node-name", name, "--datacenter", "dc1", "--http-addr", http,
		"--xds-addr", xds, "--peering-addr", "127.0.0.1:" + ports[2], "--allow-peer-addresses", "127.0.0.0/8"}
}

func consulCommand(name string) (http, xds string, args []string) {
	ports := freePorts(5)
	return "127.0.0.1:" + ports[0], "127.0.0.1:" + ports[1], []string{"agent", "-dev", "-node", name, "-bind", "127.0.0.1",
		"-http-port", ports[0], "-grpc-port", ports[1], "-grpc-tls-port", ports[2], "-server-port", ports[3], "-serf-lan-port", ports[4],
		"-serf-wan-port", "-1", "-dns-port", "-1", "-hcl", "disable_update_check = true"}
}

// freePorts returns ports of 127.0.0.1 that nobody listened on, all different.
func freePorts(n int) []string {
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err) // a machine without loopback runs no test of this package
		}
		defer listener.Close()
		_, ports[i], _ = net.SplitHostPort(listener.Addr().String())
	}
	return ports
}

func useServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: use NAME")
	}
	ts.Setenv("CONSUL_HTTP_ADDR", ts.Getenv(args[0]))
	if ts.Getenv("SERVER") == isthmusServer {
		ts.Setenv("CONSUL_HTTP_TOKEN_FILE", filepath.Join(ts.MkAbs(args[0]), "operator.token"))
	}
}

func saveMatch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: save REGEX VARIABLE")
	}
	wanted, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	found := wanted.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) < 2 {
		ts.Fatalf("%s: no match in\n%s", args[0], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[1], found[1])
}

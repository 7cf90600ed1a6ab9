package lab

import (
	"fmt"
	"os"
	"os/exec"
)

// A Names is the host names that the programs of one host find, in a file of their own in the place of /etc/hosts. Where
// hosts are no networks of their own it is only the machine's.
type Names struct {
	lab  *Lab
	file string
}

// NamesOn gives a host names of its own. Programs that are started on the host from then on know them.
func (l *Lab) NamesOn(h *Host) *Names {
	l.T.Helper()
	names := &Names{lab: l}
	if l.Isolated() {
		names.file = l.Write("hosts-"+h.Name, "127.0.0.1 localhost\n")
		h.names = names.file
	}
	return names
}

// Gateway returns a name for the gateway of a host, and the address at which the gateway must listen to be found by it.
func (n *Names) Gateway(h *Host) (name, address string) {
	n.lab.T.Helper()
	if n.file == "" {
		return "localhost", "127.0.0.1"
	}
	name = "gateway." + h.Name + ".example"
	text, err := os.ReadFile(n.file)
	if err == nil {
		err = os.WriteFile(n.file, append(text, fmt.Sprintf("%s %s\n", h.WAN, name)...), 0o600)
	}
	if err != nil {
		n.lab.T.Fatal(err)
	}
	return name, h.WAN
}

// named returns a command that sees the host's own names, when it has some: in a mount namespace of its own.
func (h *Host) named(cmd *exec.Cmd) *exec.Cmd {
	if h.names == "" {
		return cmd
	}
	script := []string{`mount --bind "$0" /etc/hosts && exec "$@"`, h.names}
	return exec.Command("unshare", append([]string{"--mount", "sh", "-c"}, append(script, cmd.Args...)...)...)
}

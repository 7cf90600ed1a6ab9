package bootstrap

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"sigs.k8s.io/yaml"
)

// YAML returns the same configuration in YAML, with sorted keys.
func YAML(bootstrap []byte) ([]byte, error) {
	text, err := yaml.JSONToYAML(bootstrap)
	if err != nil {
		return nil, fmt.Errorf("bootstrap to YAML: %w", err)
	}
	return text, nil
}

// WriteFile puts a bootstrap into a file that only its owner can read, whole or not at all. Envoy tells the format by
// the end of the name: .json, .yaml or .yml is wanted.
func WriteFile(name string, bootstrap []byte) error {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json", ".yaml", ".yml":
	default:
		return fmt.Errorf("file %q: want a name that ends in .json or .yaml: Envoy tells the format by it", name)
	}
	file, err := renameio.NewPendingFile(name, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("file %s: %w", name, err)
	}
	_, err = file.Write(bootstrap)
	if err == nil {
		err = file.CloseAtomicallyReplace()
	}
	if err != nil {
		_ = file.Cleanup() // the temporary file; the error above is the one to tell
		return fmt.Errorf("file %s: %w", name, err)
	}
	return nil
}

// RuntimeFolder returns the user's own folder for what lives as long as an Envoy does, below the runtime directory
// (XDG_RUNTIME_DIR, else the temporary one). It makes it with mode 0700.
func RuntimeFolder() (string, error) {
	folder := filepath.Join(os.TempDir(), fmt.Sprintf("isthmus-%d", os.Getuid()))
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); runtime != "" {
		folder = filepath.Join(runtime, "isthmus")
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	// The temporary directory is everybody's: someone else may have made the folder first.
	info, err := os.Lstat(folder)
	if err != nil {
		return "", err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ok || int(owner.Uid) != os.Getuid() {
		return "", fmt.Errorf("folder %s: want one that only we can enter", folder)
	}
	return folder, nil
}

// SocketPath returns where the admin socket of a proxy is by default: in RuntimeFolder.
func SocketPath(proxyID string) (string, error) {
	folder, err := RuntimeFolder()
	if err != nil {
		return "", fmt.Errorf("admin socket of %s: %w; name another place with --admin-socket", proxyID, err)
	}
	path := filepath.Join(folder, FileName(proxyID)+".admin.sock")
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("admin socket of %s: %s is longer than %d bytes; name another place with --admin-socket", proxyID, path, maxSocketPath)
	}
	return path, nil
}

// FileName returns a proxy ID in a form that is a file's name: what is neither a letter, a digit, '-', '_' nor '.'
// becomes '_'.
func FileName(proxyID string) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '_'
	}, proxyID)
	return strings.TrimLeft(safe, ".-")
}

package bootstrap

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func script(t *testing.T, path, body string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// nowhere leaves no place where an Envoy could be found, and returns the folders of the cache and of PATH.
func nowhere(t *testing.T) (cache, path string) {
	t.Helper()
	home, path := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	t.Setenv("PATH", path)
	t.Setenv("ISTHMUS_ENVOY", "")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "isthmus", "envoy"), path
}

func TestFindLooksInOrder(t *testing.T) {
	cache, path := nowhere(t)
	if _, err := Find(""); !errors.Is(err, ErrNoEnvoy) || !strings.Contains(err.Error(), "--envoy-binary or ISTHMUS_ENVOY") {
		t.Errorf("error %v, want ErrNoEnvoy and how to name one", err)
	}
	script(t, filepath.Join(cache, "1.9.0", "envoy"), "")
	script(t, filepath.Join(cache, "not-a-version", "envoy"), "")
	newest := script(t, filepath.Join(cache, "1.40.0", "envoy"), "")
	find(t, "", newest)
	if err := os.WriteFile(filepath.Join(cache, "1.41.0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	find(t, "", newest)
	inPath := script(t, filepath.Join(path, "envoy"), "")
	find(t, "", inPath)
	t.Setenv("ISTHMUS_ENVOY", newest)
	find(t, "", newest)
	find(t, inPath, inPath)
	if _, err := Find(filepath.Join(path, "none")); err == nil || errors.Is(err, ErrNoEnvoy) {
		t.Errorf("error %v, want the named file missed", err)
	}
}

func find(t *testing.T, named, want string) {
	t.Helper()
	if got, err := Find(named); err != nil || got != want {
		t.Errorf("Find(%q) = %q, %v; want %q", named, got, err, want)
	}
}

func TestCheckVersion(t *testing.T) {
	for _, tt := range []struct{ name, says, want, err string }{
		{"release", "echo 'envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL'", "1.40.0", ""},
		{"the floor", "echo 'envoy  version: 9e55809/1.37.0/Clean/RELEASE/BoringSSL'", "1.37.0", ""},
		{"development", "echo 'envoy  version: 9e55809/1.41.0-dev/Modified/DEBUG/BoringSSL'", "1.41.0", ""},
		{"too old", "echo 'envoy  version: 9e55809/1.36.12/Clean/RELEASE/BoringSSL'", "1.36.12", "is version 1.36.12, want 1.37.0 or newer"},
		{"something else", "echo 'nginx version: nginx/1.2'", "0.0.0", "want an Envoy's version"},
		{"broken", "exit 3", "0.0.0", "--version: exit status 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			binary := script(t, filepath.Join(t.TempDir(), "envoy"), tt.says)
			version, err := CheckVersion(t.Context(), binary)
			if version.String() != tt.want {
				t.Errorf("version %s, want %s", version, tt.want)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

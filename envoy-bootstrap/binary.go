package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Floor is the oldest Envoy that serves our configuration: older ones lack upstream_connect_mode, without which the
// application would be dialled before the caller has proved who it is.
var Floor = Version{1, 37, 0}

// ErrNoEnvoy is wrapped by Find when there is no Envoy binary in any of the places.
var ErrNoEnvoy = errors.New("no envoy binary")

// Version is an Envoy's version.
type Version struct{ Major, Minor, Patch int }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Less tells whether v is older than other.
func (v Version) Less(other Version) bool {
	if v.Major != other.Major {
		return v.Major < other.Major
	}
	if v.Minor != other.Minor {
		return v.Minor < other.Minor
	}
	return v.Patch < other.Patch
}

// Find returns the Envoy binary to use: the one that was named, else $ISTHMUS_ENVOY, else the one in PATH, else the
// newest in the user's cache (isthmus/envoy/<version>/envoy). What is named must exist.
func Find(named string) (string, error) {
	if named == "" {
		named = os.Getenv("ISTHMUS_ENVOY")
	}
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("envoy binary %q: %w", named, err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	if path := newestCached(); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%w: want one in PATH, or named by --envoy-binary or ISTHMUS_ENVOY (%s or newer; https://www.envoyproxy.io/docs/envoy/latest/start/install)", ErrNoEnvoy, Floor)
}

func newestCached() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	found, err := filepath.Glob(filepath.Join(cache, "isthmus", "envoy", "*", "envoy"))
	if err != nil {
		return ""
	}
	var newest string
	var newestVersion Version
	for _, path := range found {
		version, ok := parseVersion(filepath.Base(filepath.Dir(path)))
		if _, err := exec.LookPath(path); ok && err == nil && (newest == "" || newestVersion.Less(version)) {
			newest, newestVersion = path, version
		}
	}
	return newest
}

var versionPattern = regexp.MustCompile(`(?:^|/)v?(\d+)\.(\d+)\.(\d+)(?:[-/]|$)`)

// parseVersion reads "1.40.0", or what Envoy prints: "…  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL".
func parseVersion(text string) (Version, bool) {
	match := versionPattern.FindStringSubmatch(text)
	if match == nil {
		return Version{}, false
	}
	var numbers [3]int
	for i, digits := range match[1:] {
		number, err := strconv.Atoi(digits)
		if err != nil {
			return Version{}, false
		}
		numbers[i] = number
	}
	return Version{numbers[0], numbers[1], numbers[2]}, true
}

var printedVersion = regexp.MustCompile(`version: ([^\s]+)`)

// VersionOf asks a binary for its version.
func VersionOf(ctx context.Context, binary string) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	text, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return Version{}, fmt.Errorf("envoy %s: --version: %w", binary, err)
	}
	if match := printedVersion.FindSubmatch(text); match != nil {
		if version, ok := parseVersion(string(match[1])); ok {
			return version, nil
		}
	}
	return Version{}, fmt.Errorf("envoy %s: --version answered %.100q: want an Envoy's version", binary, text)
}

// CheckVersion returns the binary's version, and an error when it is older than Floor.
func CheckVersion(ctx context.Context, binary string) (Version, error) {
	version, err := VersionOf(ctx, binary)
	if err == nil && version.Less(Floor) {
		err = fmt.Errorf("envoy %s: is version %s, want %s or newer", binary, version, Floor)
	}
	return version, err
}

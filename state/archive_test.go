package state_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/state"
)

// files returns the files of an archive, and checks that they are those that Consul wants, with their checksums.
func files(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for reader := tar.NewReader(zipped); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if found[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"meta.json", "state.bin"} {
		if !strings.Contains(string(found["SHA256SUMS"]), fmt.Sprintf("%x  %s\n", sha256.Sum256(found[name]), name)) {
			t.Fatalf("%s is not in\n%s", name, found["SHA256SUMS"])
		}
	}
	return found
}

// content returns what the records of an archive hold.
func content(t *testing.T, archive []byte) []byte {
	t.Helper()
	records := files(t, archive)["state.bin"][20:]
	var all []byte
	for len(records) > 0 {
		length := binary.BigEndian.Uint32(records[2:])
		all, records = append(all, records[6:6+length]...), records[6+length:]
	}
	return all
}

// rezipped returns an archive whose one file was changed.
func rezipped(t *testing.T, archive []byte, name string, change func([]byte) []byte) []byte {
	t.Helper()
	contents := files(t, archive)
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	writer := tar.NewWriter(zipped)
	for _, file := range []string{"meta.json", "state.bin", "SHA256SUMS"} {
		data := contents[file]
		if file == name {
			data = change(bytes.Clone(data))
		}
		if err := writer.WriteHeader(&tar.Header{Name: file, Mode: 0o600, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(writer.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchive(t *testing.T) {
	archive := archived(t)
	info, err := state.InspectSnapshot(bytes.NewReader(archive))
	if err != nil || info.TrustDomain == "" {
		t.Fatalf("%+v, %v", info, err)
	}
	var meta struct {
		ID    string
		Index uint64
		Size  int
	}
	found := files(t, archive)
	if err := json.Unmarshal(found["meta.json"], &meta); err != nil || meta.Index != info.Index || meta.Size != len(found["state.bin"]) || meta.ID == "" {
		t.Errorf("%s, %v", found["meta.json"], err)
	}
	s := open(t, t.TempDir())
	if _, err := s.Restore(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Error(err)
	}
	flip := func(i int) func([]byte) []byte { return func(data []byte) []byte { data[i] ^= 1; return data } }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"cut off":     {archive[:len(archive)/2], "is cut off"},
		"no end":      {archive[:len(archive)-4], "is cut off"},
		"flipped":     {flip(len(archive) - 6)(bytes.Clone(archive)), "checksum"},
		"other meta":  {rezipped(t, archive, "meta.json", flip(20)), "meta.json has another checksum"},
		"other sums":  {rezipped(t, archive, "SHA256SUMS", flip(3)), "has another checksum"},
		"record type": {rezipped(t, archive, "state.bin", flip(21)), "a record is of another type"},
		"a Consul's":  {rezipped(t, archive, "state.bin", flip(20)), "is a Consul's snapshot"},
		"empty":       {rezipped(t, archive, "state.bin", func([]byte) []byte { return nil }), "is a Consul's snapshot"},
	} {
		if _, err := state.InspectSnapshot(bytes.NewReader(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v: want %q", name, err, c.want)
		}
	}
	if _, err := state.InspectSnapshot(bytes.NewReader(rezipped(t, archive, "state.bin", flip(20)))); !errors.Is(err, state.ErrConsulSnapshot) {
		t.Errorf("a Consul's: %v", err)
	}
}

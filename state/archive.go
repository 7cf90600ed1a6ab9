package state

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// A backup travels as Consul's do: a gzip of a tar with meta.json, state.bin and SHA256SUMS. So Consul's command verifies,
// inspects and restores ours. state.bin starts with a map in msgpack that holds the index; each record after it is a byte
// that says its type, and a value in msgpack: here the next piece of what info.write writes.
const (
	metaFile, stateFile, sumsFile = "meta.json", "state.bin", "SHA256SUMS"

	// pieceType is no type of Consul's: a Consul that is made to restore one of ours says so and changes nothing.
	pieceType   = 63
	pieceSize   = 1 << 20
	pieceHeader = 6 // the type, and bin32 with its length
	stateHeader = 20
	bin32       = 0xc6
)

// ErrConsulSnapshot is returned for a backup that a Consul made.
var ErrConsulSnapshot = errors.New("is a Consul's snapshot: `consul snapshot inspect` reads it")

// writeArchive writes what write writes, size bytes, as the state.bin of an archive.
func writeArchive(w io.Writer, info SnapshotInfo, size int64, write func(io.Writer) error) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	framed := stateHeader + size + pieceHeader*((size+pieceSize-1)/pieceSize)
	meta, err := json.Marshal(map[string]any{
		"Version": 1, "ID": fmt.Sprintf("isthmus-%d-%d", info.Index, info.Created.UnixMilli()), "Index": info.Index, "Term": 1, "Size": framed,
	})
	if err != nil {
		return err
	}
	sums := &bytes.Buffer{}
	entry := func(name string, size int64, write func(io.Writer) error) error {
		header := &tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: info.Created}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		sum := sha256.New()
		if err := write(io.MultiWriter(archive, sum)); err != nil {
			return err
		}
		fmt.Fprintf(sums, "%x  %s\n", sum.Sum(nil), name)
		return nil
	}
	if err := entry(metaFile, int64(len(meta)), func(w io.Writer) error { _, err := w.Write(meta); return err }); err != nil {
		return err
	}
	if err := entry(stateFile, framed, func(w io.Writer) error { return frame(w, info.Index, write) }); err != nil {
		return err
	}
	text := bytes.Clone(sums.Bytes())
	if err := entry(sumsFile, int64(len(text)), func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
		return err
	}
	return errors.Join(archive.Close(), zipped.Close())
}

// frame cuts what write writes into records.
func frame(w io.Writer, index uint64, write func(io.Writer) error) error {
	header := append([]byte{0x81, 0xa9}, "LastIndex"...) // a map of one, a text of nine bytes
	header = binary.BigEndian.AppendUint64(append(header, 0xcf), index)
	if _, err := w.Write(header); err != nil {
		return err
	}
	pieces := bufio.NewWriterSize(pieceWriter{w}, pieceSize)
	if err := write(pieces); err != nil {
		return err
	}
	return pieces.Flush()
}

// pieceWriter writes each of its inputs as a record.
type pieceWriter struct{ w io.Writer }

func (p pieceWriter) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		piece := data[:min(len(data), pieceSize)]
		if _, err := p.w.Write(binary.BigEndian.AppendUint32([]byte{pieceType, bin32}, uint32(len(piece)))); err != nil {
			return written, err
		}
		n, err := p.w.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
		data = data[n:]
	}
	return written, nil
}

// openArchive returns what writeArchive was given. Reading it to its end verifies the archive. What is no archive is
// returned as it is.
func openArchive(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	if start, _ := buffered.Peek(2); !bytes.Equal(start, []byte{0x1f, 0x8b}) { // a failed read is the next one's error too
		return buffered, nil
	}
	zipped, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("is damaged: %w", err)
	}
	a := &archiveReader{archive: tar.NewReader(zipped), zipped: zipped, sums: map[string]hash.Hash{}}
	if err := a.begin(); err != nil {
		return nil, err
	}
	return a, nil
}

// archiveReader reads the pieces in state.bin.
type archiveReader struct {
	archive *tar.Reader
	zipped  io.Reader
	sums    map[string]hash.Hash
	state   *bufio.Reader
	left    int // of the piece
}

// begin finds state.bin and its first piece.
func (a *archiveReader) begin() error {
	for {
		entry, err := a.next()
		if err != nil {
			return cutOff(err)
		}
		if entry != stateFile {
			continue
		}
		a.state = bufio.NewReader(a.hashed(entry))
		header, err := a.state.Peek(stateHeader + 1)
		if err != nil || !bytes.Equal(header[2:11], []byte("LastIndex")) || header[stateHeader] != pieceType {
			return ErrConsulSnapshot
		}
		_, err = a.state.Discard(stateHeader)
		return err
	}
}

// next goes to the next file of the archive, past what was not read of this one.
func (a *archiveReader) next() (string, error) {
	header, err := a.archive.Next()
	if err != nil {
		return "", err
	}
	if header.Name == metaFile {
		_, err = io.Copy(io.Discard, a.hashed(metaFile))
	}
	return header.Name, err
}

// hashed reads the current file of the archive, and sums it up.
func (a *archiveReader) hashed(name string) io.Reader {
	a.sums[name] = sha256.New()
	return io.TeeReader(a.archive, a.sums[name])
}

func (a *archiveReader) Read(p []byte) (int, error) {
	if a.left == 0 {
		if err := a.piece(); err != nil {
			return 0, err
		}
	}
	n, err := a.state.Read(p[:min(len(p), a.left)])
	a.left -= n
	if n > 0 {
		err = nil // it comes again, where it means something
	}
	return n, cutOff(err)
}

// piece reads the header of the next piece; at the end it verifies the rest of the archive, and returns io.EOF.
func (a *archiveReader) piece() error {
	header := make([]byte, pieceHeader)
	_, err := io.ReadFull(a.state, header)
	switch {
	case errors.Is(err, io.EOF):
		return a.end()
	case err != nil:
		return cutOff(err)
	case header[0] != pieceType || header[1] != bin32:
		return errors.New("is damaged: a record is of another type")
	}
	a.left = int(binary.BigEndian.Uint32(header[2:]))
	return nil
}

func (a *archiveReader) end() error {
	name, err := a.next()
	if err != nil || name != sumsFile {
		return fmt.Errorf("is damaged: %s is missing: %w", sumsFile, cutOff(err))
	}
	text, err := io.ReadAll(io.LimitReader(a.archive, maxHeader))
	if err != nil {
		return cutOff(err)
	}
	for name, sum := range a.sums {
		if !bytes.Contains(text, fmt.Appendf(nil, "%x  %s\n", sum.Sum(nil), name)) {
			return fmt.Errorf("is damaged: %s has another checksum", name)
		}
	}
	if _, err := io.Copy(io.Discard, a.zipped); err != nil {
		return cutOff(err)
	}
	return io.EOF
}

// cutOff keeps an archive that ends too early from looking like one that has ended.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is cut off")
	}
	return err
}

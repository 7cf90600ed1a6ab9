// Package redact holds values that must never be printed: each prints itself as <redacted> in text, JSON, YAML and
// %#v. The value is read by Reveal only, so that every use of a secret can be found by that word.
package redact

import "crypto/subtle"

const hidden = "<redacted>"

// String is a secret text: a token, a stream secret.
type String struct{ value string }

// NewString hides value.
func NewString(value string) String { return String{value} }

// Reveal returns the secret itself.
func (s String) Reveal() string { return s.value }

// Empty tells whether there is no secret.
func (s String) Empty() bool { return s.value == "" }

// Equal compares in constant time.
func (s String) Equal(other String) bool {
	return subtle.ConstantTimeCompare([]byte(s.value), []byte(other.value)) == 1
}

func (s String) String() string               { return hidden }
func (s String) GoString() string             { return hidden }
func (s String) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Bytes is a secret in bytes: a private key in PEM.
type Bytes struct{ value []byte }

// NewBytes hides value, which the caller must not write again.
func NewBytes(value []byte) Bytes { return Bytes{value} }

// Reveal returns the secret itself, which the caller must not write.
func (b Bytes) Reveal() []byte { return b.value }

// Empty tells whether there is no secret.
func (b Bytes) Empty() bool { return len(b.value) == 0 }

func (b Bytes) String() string               { return hidden }
func (b Bytes) GoString() string             { return hidden }
func (b Bytes) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Package recording keeps everything that a diagnosis went by, so that it can be made again on another
// machine, later, and without the process. testdata/recording/README.md describes the format.
//
// The package is pure: it reads from and writes to what it is given.
package recording

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Format is the number of the format that Write writes. A field that older programs may pass over does not
// change it; one that they would misunderstand does.
const Format = 1

const (
	// maxText bounds a recording's text in bytes. A descriptor takes some 400 bytes, so that 300 000 of them
	// fit; what is beyond is a mistake or malice, for text compresses a thousandfold.
	maxText = 128 << 20
	// maxObjects bounds the JSON objects of a recording. The smallest takes two bytes in the text and a
	// hundred times as much in memory; a descriptor has five of them.
	maxObjects = 2 << 20
)

// What can be wrong with a recording.
var (
	ErrForeign   = errors.New("it is no recording of whyspin")
	ErrTruncated = errors.New("it is cut short")
	ErrDamaged   = errors.New("it is damaged")
	ErrTooLarge  = fmt.Errorf("it is too large: more than %d MiB of text or %d objects", maxText>>20,
		maxObjects)
	ErrNewer = errors.New("it was made by a newer whyspin, whose format this one does not know")
)

// Recording is a case with its circumstances.
type Recording struct {
	// MadeBy is the version of whyspin that made it, Kernel the release of the kernel it was made under.
	MadeBy string    `json:"made_by"`
	Kernel string    `json:"kernel,omitempty"`
	At     time.Time `json:"at"`
	// Story says in one line what happened, when somebody knows.
	Story string `json:"story,omitempty"`
	// Anonymized is true exactly when addresses and names were replaced.
	Anonymized bool           `json:"anonymized,omitempty"`
	Case       *evidence.Case `json:"case"`
}

// envelope is the text of a recording. The key of the number tells it from other JSON.
type envelope struct {
	Format int `json:"whyspin_recording"`
	Recording
}

// Write writes a recording. It fails with ErrTooLarge for one that Read would refuse.
func Write(w io.Writer, r *Recording) error {
	text, err := encode(r)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	return z.Close()
}

// encode returns the text of a recording.
func encode(r *Recording) ([]byte, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	if err := out.Encode(envelope{Format, *r}); err != nil {
		return nil, err
	}
	if tooLarge(text.Bytes()) {
		return nil, ErrTooLarge
	}
	return text.Bytes(), nil
}

func tooLarge(text []byte) bool {
	return len(text) > maxText || bytes.Count(text, []byte("{")) > maxObjects
}

// Read reads what Write wrote. Its errors are those of this package, with details, and those of r.
func Read(r io.Reader) (*Recording, error) {
	text, err := unpack(r)
	if err != nil {
		return nil, err
	}
	return decode(text)
}

// decode reads the text of a recording.
func decode(text []byte) (*Recording, error) {
	var head struct {
		Format int `json:"whyspin_recording"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Format < 1 {
		return nil, ErrForeign
	}
	if head.Format > Format {
		return nil, fmt.Errorf("%w: %d, not %d", ErrNewer, head.Format, Format)
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := check(e.Case); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return &e.Recording, nil
}

// unpack returns the text of a recording.
func unpack(r io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(r)
	switch {
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, io.EOF):
		return nil, ErrForeign
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, ErrTruncated
	case err != nil:
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(z, maxText+1))
	switch {
	case tooLarge(text):
		return nil, ErrTooLarge
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, ErrTruncated
	case err != nil && unpacking(err):
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return text, err
}

// unpacking reports whether an error is about what was read and not about reading it.
func unpacking(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.As(err, &corrupt) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader)
}

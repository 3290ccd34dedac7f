package recording

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/report"
)

// full is a case in which no field is empty, whatever fields there are. The texts are given by name.
func full(t testing.TB, text func(path string) string) *evidence.Case {
	t.Helper()
	c := &evidence.Case{}
	n := 0
	fill(t, reflect.ValueOf(c).Elem(), "Case", text, &n)
	// What no window could have been like is refused.
	c.Window.Start, c.Window.End = 1, 1_000_000_001
	c.Before.At, c.After.At = 1, 1_000_000_001
	for i := range c.Window.Threads {
		for j := range c.Window.Threads[i].Sets {
			c.Window.Threads[i].Sets[j].Owner = evidence.OwnerWorker
		}
	}
	return c
}

func fill(t testing.TB, v reflect.Value, path string, text func(string) string, n *int) {
	t.Helper()
	*n++
	if o, ok := v.Addr().Interface().(json.Unmarshaler); ok { // an Observed
		value, _ := v.Type().FieldByName("value")
		inner := reflect.New(value.Type)
		fill(t, inner.Elem(), path, text, n)
		encoded, err := json.Marshal(inner.Interface())
		if err == nil {
			err = o.UnmarshalJSON(encoded)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), path, text, n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), path, text, n)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, path+".key", text, n)
		fill(t, value, path, text, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), path+"."+v.Type().Field(i).Name, text, n)
		}
	case reflect.String:
		v.SetString(text(path))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 200))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	default:
		t.Fatalf("%s is a %v: teach fill what to do with it", path, v.Kind())
	}
}

func write(t testing.TB, r *Recording) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := Write(&file, r); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestEverythingIsReadAsItWasWritten(t *testing.T) {
	want := &Recording{MadeBy: "1.2.3", Kernel: "6.1", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Story: "a <story> of > one line", Anonymized: true,
		Case: full(t, func(path string) string { return path })}
	got, err := Read(bytes.NewReader(write(t, want)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)))
	}
}

// packed is a text as a recording is packed.
func packed(t testing.TB, text string) string {
	t.Helper()
	var file bytes.Buffer
	z := gzip.NewWriter(&file)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

func TestWhatIsNoRecordingIsRefused(t *testing.T) {
	whole := string(write(t, &Recording{Case: &evidence.Case{}}))
	flipped := []byte(whole)
	flipped[len(flipped)-6] ^= 1 // the checksum
	window := func(text string) string {
		return packed(t, `{"whyspin_recording":1,"case":{"window":`+text+`}}`)
	}
	tests := []struct {
		name, file string
		want       error
	}{
		{"an empty file", "", ErrForeign},
		{"a text", "global\n    nbthread 1\n", ErrForeign},
		{"a packed text", packed(t, "global\n"), ErrForeign},
		{"other JSON, packed", packed(t, `{"schema":1}`), ErrForeign},
		{"a recording without a case", packed(t, `{"whyspin_recording":1}`), ErrDamaged},
		{"a newer format", packed(t, `{"whyspin_recording":2,"case":{}}`), ErrNewer},
		{"a number where a list is", packed(t, `{"whyspin_recording":1,"case":{"unknown":1}}`), ErrDamaged},
		{"a window without an end", window(`{"Start":5}`), ErrDamaged},
		{"a window that never ends", window(`{"Start":5,"End":9223372036854775807}`), ErrDamaged},
		{"two looks at one moment", packed(t, `{"whyspin_recording":1,"case":{"before":{"at":5},`+
			`"after":{"at":5}}}`), ErrDamaged},
		{"a set of nobody", window(`{"End":5,"threads":[{"sets":[{"owner":9}]}]}`), ErrDamaged},
		{"a file cut in its head", whole[:5], ErrTruncated},
		{"a file cut in its middle", whole[:len(whole)/2], ErrTruncated},
		{"a file cut at its end", whole[:len(whole)-1], ErrTruncated},
		{"a wrong checksum", string(flipped), ErrDamaged},
		{"something behind the end", whole + "something else altogether", ErrDamaged},
		{"a text without an end", packed(t, strings.Repeat(" ", maxText+1)), ErrTooLarge},
		{"a crowd of objects", packed(t, `{"whyspin_recording":1,"x":[`+strings.Repeat("{},", maxObjects)+
			"{}]}"), ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Read(strings.NewReader(tt.file)); !errors.Is(err, tt.want) {
				t.Errorf("reading it: %v, should be: %v", err, tt.want)
			}
		})
	}
	t.Run("a disk that fails", func(t *testing.T) {
		broken := errors.New("input/output error")
		r := io.MultiReader(strings.NewReader(whole[:len(whole)/2]), iotest.ErrReader(broken))
		if _, err := Read(r); !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
			t.Errorf("reading it: %v, should be: %v", err, broken)
		}
	})
}

func TestWhatNobodyCouldReadIsNotWritten(t *testing.T) {
	c := &evidence.Case{Unknown: []string{strings.Repeat("x", maxText)}}
	if err := Write(io.Discard, &Recording{Case: c}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("writing it: %v, should be: %v", err, ErrTooLarge)
	}
}

// FuzzRead: whatever is in a file, it is refused or can be diagnosed and reported.
func FuzzRead(f *testing.F) {
	text, err := encode(&Recording{Case: full(f, func(path string) string { return path })})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"whyspin_recording":1,"case":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decode(text)
		if err != nil {
			return
		}
		d := correlate.Correlate(r.Case)
		if err := report.Text(io.Discard, d); err != nil {
			t.Error(err)
		}
		if err := report.JSON(io.Discard, d); err != nil {
			t.Error(err)
		}
		if _, err := encode(r); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
		again, err := encode(&Recording{Case: Anonymize(r.Case)})
		if err == nil {
			_, err = decode(again)
		}
		if err != nil {
			t.Errorf("what was anonymized is refused: %v", err)
		}
	})
}

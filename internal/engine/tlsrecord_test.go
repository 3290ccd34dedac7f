package engine

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
)

// overheard is a connection whose received bytes are kept.
type overheard struct {
	net.Conn
	received bytes.Buffer
}

func (o *overheard) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	o.received.Write(p[:n])
	return n, err
}

// payloads returns the sizes of what is in the records of application data that have been received since it
// was asked last, by TLS 1.2 with GCM.
func (o *overheard) payloads(t *testing.T) (sizes []int) {
	const header, applicationData, overhead = 5, 23, 8 + 16
	for o.received.Len() > 0 {
		record := o.received.Next(header)
		size := int(binary.BigEndian.Uint16(record[3:]))
		if len(o.received.Next(size)) < size {
			t.Fatal("the last record is not whole")
		}
		if record[0] == applicationData {
			sizes = append(sizes, size-overhead)
		}
	}
	return sizes
}

// TestTLSRecordsAreOfTheConfiguredSize until the stream fills its buffers.
func TestTLSRecordsAreOfTheConfiguredSize(t *testing.T) {
	const most, small, large = 1400, 5000, 4 << 20
	server, client := testTLS(tls.VersionTLS12)
	server.DynamicRecordSizingDisabled = true
	p := start(t, settings{tls: server, change: func(c *config.Config, _ *config.Proxy) {
		c.Global.TLS.MaxRecord = most
	}}, serve(t, func(c *net.TCPConn) {
		for _, size := range [...]int{small, large, small} {
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				return
			}
			if _, err := c.Write(make([]byte, size)); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, c)
	}))
	dialed, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	o := &overheard{Conn: dialed}
	c := tls.Client(o, client)
	defer c.Close()
	for _, size := range [...]int{small, large, small} {
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		records := o.payloads(t)
		largest, sum := slices.Max(records), 0
		for _, n := range records {
			sum += n
		}
		if sum != size {
			t.Errorf("the records of %d bytes hold %d", size, sum)
		}
		if size == small && largest != most {
			t.Errorf("%d bytes come in records of up to %d, the limit is %d", size, largest, most)
		}
		if size == large && largest != 16<<10 {
			t.Errorf("%d bytes come in records of up to %d, should be of 16384", size, largest)
		}
	}
}

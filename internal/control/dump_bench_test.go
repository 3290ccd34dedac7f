package control

import (
	"bufio"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// BenchmarkFullDump prints one stream as "show sess all" does.
func BenchmarkFullDump(b *testing.B) {
	bind, server := &config.Bind{ID: 1}, &config.Server{Name: "mx1", ID: 1}
	proxy := &config.Proxy{Name: "smtp", ID: 2}
	at := func(text string) sys.Address { return sys.Address{IP: netip.MustParseAddrPort(text)} }
	now := ktime.Time(time.Hour)
	v := engine.StreamView{
		ID: "0xed000000ec", Serial: 236, Worker: 1, At: now, Frontend: proxy, Backend: proxy, Bind: bind,
		Server: server, Client: at("127.0.0.1:60166"), FrontAddress: at("127.0.0.1:25"),
		BackAddress: at("127.0.0.1:41790"), ServerAddress: at("127.0.0.1:33437"),
		ClientState: stream.Established, ServerState: stream.Established,
		Ends:     [2]engine.EndView{{FD: 433, Ready: "-W---"}, {FD: 434, Ready: "-W---"}},
		Deadline: now.Add(time.Minute), SideDeadline: ktime.Never,
	}
	for _, c := range [...]*stream.ChannelView{&v.Request, &v.Response} {
		c.InDeadline, c.OutDeadline = v.Deadline, ktime.Never
	}
	s := &Server{pointers: pointers{bind: "0x10000", server: "0x10100"}}
	c := &session{server: s, out: bufio.NewWriterSize(io.Discard, outputBuffer)}
	b.ReportAllocs()
	for b.Loop() {
		c.printStreamFull(&v)
	}
}

package stream

// event is something the world can do to a stream, with the condition under which it can.
type event struct {
	name     string
	possible func(*Stream) bool
	happen   func(*Stream)
}

func nothing(*Stream) {}

func always(*Stream) bool { return true }

// clientEvents and serverEvents are what may happen on either side; buffers hold at most one byte, which
// stands for all others.
var clientEvents = []event{
	{"-", always, nothing},
	{"client sends", func(s *Stream) bool { return s.wants.Has(ReadClient) && s.request.buffered == 0 },
		func(s *Stream) { s.Read(Client, 1) }},
	{"client fills the buffer", func(s *Stream) bool {
		return s.wants.Has(ReadClient) && s.request.buffered == 0
	}, func(s *Stream) { s.Read(Client, 1); s.request.full = true }},
	{"client's handshake completes", func(s *Stream) bool { return s.client.handshake },
		(*Stream).Handshaken},
	{"client's handshake completes with bytes", func(s *Stream) bool { return s.client.handshake },
		func(s *Stream) { s.Handshaken(); s.Read(Client, 1) }},
	{"client's handshake fails", func(s *Stream) bool { return s.client.handshake },
		(*Stream).HandshakeFailed},
	{"the client is refused", func(s *Stream) bool { return s.client.handshake }, (*Stream).Refuse},
	{"client FIN", func(s *Stream) bool { return s.request.in.state == Open && !s.client.handshake },
		func(s *Stream) { s.EOF(Client) }},
	{"client reset", func(s *Stream) bool { return s.client.state != Closed && !s.client.handshake },
		func(s *Stream) { s.Broken(Client) }},
	{"client reads", func(s *Stream) bool { return s.wants.Has(WriteClient) },
		func(s *Stream) { s.Wrote(Client, 1) }},
	{"client write fails", func(s *Stream) bool { return s.wants.Has(WriteClient) },
		func(s *Stream) { s.WriteFailed(Client) }},
	{"admin kill", always, func(s *Stream) { s.Kill(KillAdmin) }},
}

var serverEvents = []event{
	{"-", always, nothing},
	{"handshake with the server", func(s *Stream) bool {
		return s.server.state == Connecting && !s.server.handshake && s.policy.ClientHandshake > 0
	}, func(s *Stream) { s.BeginHandshake(Server, s.times.Accepted) }},
	{"connected", func(s *Stream) bool { return s.server.state == Connecting }, (*Stream).Connected},
	{"connect fails", func(s *Stream) bool { return s.server.state == Connecting },
		func(s *Stream) { s.ConnectFailed(ConnectRefused) }},
	{"slot", func(s *Stream) bool { return s.server.state == Queued },
		func(s *Stream) { s.Assigned(true, false) }},
	{"server sends", func(s *Stream) bool { return s.wants.Has(ReadServer) && s.response.buffered == 0 },
		func(s *Stream) { s.Read(Server, 1) }},
	{"server fills the buffer", func(s *Stream) bool {
		return s.wants.Has(ReadServer) && s.response.buffered == 0
	}, func(s *Stream) { s.Read(Server, 1); s.response.full = true }},
	{"server FIN", func(s *Stream) bool {
		return s.server.state == Established &&
			s.response.in.state == Open
	},
		func(s *Stream) { s.EOF(Server) }},
	{"server reset", func(s *Stream) bool { return s.server.state == Established },
		func(s *Stream) { s.Broken(Server) }},
	{"server reads", func(s *Stream) bool { return s.wants.Has(WriteServer) },
		func(s *Stream) { s.Wrote(Server, 1) }},
	{"server write fails", func(s *Stream) bool { return s.wants.Has(WriteServer) },
		func(s *Stream) { s.WriteFailed(Server) }},
}

// answers are the engine's possible answers to Assign.
var answers = []event{
	{"assigned, others", always, func(s *Stream) { s.Assigned(true, true) }},
	{"assigned, no others", always, func(s *Stream) { s.Assigned(false, false) }},
	{"enqueued", always, (*Stream).Enqueued},
	{"no server", always, (*Stream).NoServer},
}

// both are pairs of events of one side that one wakeup may bring, the second if it is possible after the
// first.
var both = [2][][2]string{
	Client: {
		{"client sends", "client FIN"}, {"client sends", "client reset"}, {"client FIN", "client reset"},
		{"client sends", "client write fails"}, {"client reads", "client FIN"},
	},
	Server: {
		{"server sends", "server FIN"}, {"server sends", "server reset"}, {"server FIN", "server reset"},
		{"server sends", "server write fails"}, {"server reads", "server FIN"},
	},
}

// batches are what one wakeup may bring from a side.
func batches(side Side) [][]event {
	events := clientEvents
	if side == Server {
		events = serverEvents
	}
	byName := map[string]event{}
	var list [][]event
	for _, e := range events {
		byName[e.name] = e
		list = append(list, []event{e})
	}
	for _, pair := range both[side] {
		list = append(list, []event{byName[pair[0]], byName[pair[1]]})
	}
	return list
}

package stream

// Posture is where a stream stands, small enough to be kept for its wakeups: what changes in it is what a
// person wants to know of a wakeup.
type Posture struct {
	Client, Server                                 SideState
	RequestIn, RequestOut, ResponseIn, ResponseOut EndState
	// Handshake is true exactly when the TLS handshake of either side is under way.
	Handshake bool
	// Retries is the number of attempts after the first, at most 255.
	Retries uint8
	// Redispatched is true exactly when a retry went to another server.
	Redispatched bool
}

// Posture returns where the stream stands.
func (s *Stream) Posture() Posture {
	return Posture{
		Client: s.client.state, Server: s.server.state,
		RequestIn: s.request.in.state, RequestOut: s.request.out.state,
		ResponseIn: s.response.in.state, ResponseOut: s.response.out.state,
		Handshake: s.client.handshake || s.server.handshake,
		Retries:   uint8(min(s.Retries(), 255)), Redispatched: s.redispatched,
	}
}

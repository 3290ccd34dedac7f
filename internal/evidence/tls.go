package evidence

// TLS is how the TLS of one connection stands, by the account of its process.
type TLS struct {
	// State is one of the constants below, or says what ended it: "connection broken", "alert received" ...
	State string `json:"state"`
	// WantsRead is true exactly when it can go on only with bytes of the peer: those of a handshake, or the
	// rest of a record of which a part has come, which Incomplete says. An established connection between two
	// records waits for nothing.
	WantsRead  bool `json:"want_read,omitempty"`
	Incomplete bool `json:"record_incomplete,omitempty"`
	// WantsWrite is true exactly when what was sealed waits until the connection takes it.
	WantsWrite bool `json:"want_write,omitempty"`
	// Error is what the TLS layer met when it read, of which the stream was not told; empty for nothing.
	Error string `json:"error_not_passed_up,omitempty"`
}

// The states of a connection that nothing has broken.
const (
	TLSHandshake   = "handshake"
	TLSEstablished = "established"
	// TLSEnded: the peer has said that nothing more comes. TLSCutOff: it has ended its direction without a
	// word in TLS, so that bytes may be missing.
	TLSEnded  = "ended"
	TLSCutOff = "ended without close_notify"
)

// String puts it into one line: "established, want-read, record incomplete".
func (t *TLS) String() string {
	text := t.State
	for _, part := range []struct {
		is   bool
		text string
	}{
		{t.WantsRead, "want-read"}, {t.WantsWrite, "want-write"}, {t.Incomplete, "record incomplete"},
		{t.Error != "", "error not passed up: " + t.Error},
	} {
		if part.is {
			text += ", " + part.text
		}
	}
	return text
}

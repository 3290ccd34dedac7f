package engine

import (
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

// limitsTLS are the limits of the process that concern TLS: "maxsslconn", for the connections of both sides,
// and "maxsslrate", for the clients accepted in a second, whose handshakes cost far more than what follows.
type limitsTLS struct {
	// secured counts the connections with TLS, of clients from when they are admitted.
	secured    atomic.Int64
	maxSecured int64 // 0 for no limit
	maxRate    int   // 0 for no limit
	// maxRecord is the most bytes of a stream in a record as long as they come in small amounts; 0 for no
	// limit ("tune.ssl.maxrecord").
	maxRecord int
	begun     sharedRate
}

// enterTLS counts a client of the listener, and reports whether it is within the limit.
func (e *Engine) enterTLS(l *listener) bool {
	return l.tls == nil || e.secured.Add(1) <= e.maxSecured || e.maxSecured == 0
}

// enterServerTLS counts a connection to a server if it is within the limit, and reports whether it is. One
// that is refused takes no place even for a moment: a listener that found none then would hear of none.
func (e *Engine) enterServerTLS() bool {
	for {
		n := e.secured.Load()
		if e.maxSecured > 0 && n >= e.maxSecured {
			return false
		}
		if e.secured.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// mayEnterTLS reports whether one more client of the listener is within the limit.
func (e *Engine) mayEnterTLS(l *listener) bool {
	return l.tls == nil || e.maxSecured == 0 || e.secured.Load() < e.maxSecured
}

// leaveTLS counts a connection out, if it has TLS.
func (e *Engine) leaveTLS(is bool) {
	if is {
		e.secured.Add(-1)
	}
}

// countTLS counts an accepted client of the listener towards the rate.
func (e *Engine) countTLS(l *listener, now ktime.Time) {
	if l.tls != nil && e.maxRate > 0 {
		e.begun.add(now)
	}
}

// paceTLS returns for how long the listener is to rest before it takes another client.
func (e *Engine) paceTLS(l *listener, now ktime.Time) time.Duration {
	if l.tls == nil || e.maxRate == 0 {
		return 0
	}
	if rate, _ := e.begun.read(now); rate < float64(e.maxRate) {
		return 0
	}
	return max(time.Second/time.Duration(e.maxRate), time.Millisecond)
}

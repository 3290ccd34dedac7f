package control

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// startAdmin serves the HTTP endpoints of an idle engine; change may put other limits in.
func startAdmin(t *testing.T, o AdminOptions, change func(*Admin)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	o.Engine, o.Listener, o.Name = start(t, setup{}).engine, l, "127.0.0.1:9901"
	if o.MaxConns == 0 {
		o.MaxConns = 10
	}
	a := NewAdmin(o)
	if change != nil {
		change(a)
	}
	a.Start()
	t.Cleanup(a.Close)
	return l.Addr().String()
}

// request sends a request for a page and returns the answer; the connection stays open.
func request(t *testing.T, c net.Conn, page string) *http.Response {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: proxy\r\n\r\n", page)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	answer.Body = io.NopCloser(strings.NewReader(string(text)))
	return answer
}

func TestHTTPConnectionsAreLimited(t *testing.T) {
	at := startAdmin(t, AdminOptions{MaxConns: 2}, nil)
	var open []net.Conn
	for range 2 {
		c := dial(t, "tcp", at)
		if got := request(t, c, "/metrics").StatusCode; got != http.StatusOK {
			t.Fatalf("/metrics answers %d", got)
		}
		open = append(open, c)
	}
	third := dial(t, "tcp", at)
	_, err := io.WriteString(third, "GET /metrics HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")
	must(t, err)
	must(t, third.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("with all places taken, a client is answered %d bytes and %v", n, err)
	}
	open[0].Close()
	must(t, third.SetDeadline(time.Now().Add(patience)))
	if answer, err := io.ReadAll(third); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		t.Errorf("after one has left, the next is answered %.100q and %v", answer, err)
	}
}

// Whoever may not ask keeps no connection: neither without a request, nor with half of one, nor refused.
func TestHTTPConnectionsWithoutARequestEndSoon(t *testing.T) {
	users := Users{sha256.Sum256([]byte("alice:secret")): true}
	at := startAdmin(t, AdminOptions{Users: users}, func(a *Admin) {
		if a.server.ReadTimeout != adminReadTimeout || a.server.IdleTimeout != adminIdleTimeout ||
			a.server.WriteTimeout != adminWriteTimeout {
			t.Errorf("the server lacks a limit of time: %+v", a.server)
		}
		a.server.ReadTimeout, a.server.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	const half = "GET /metrics HTTP/1.1\r\nHost: p"
	for _, send := range []string{"", half, half + "\r\n\r\n"} {
		c := dial(t, "tcp", at)
		_, err := io.WriteString(c, send)
		must(t, err)
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("after %q the connection stays: %v", send, err)
		}
	}
	c := dial(t, "tcp", at)
	answer := request(t, c, "/metrics")
	if answer.StatusCode != http.StatusUnauthorized || !answer.Close {
		t.Errorf("a stranger is answered %d, and the connection is closed: %t", answer.StatusCode,
			answer.Close)
	}
}

// The limits of time are for clients, not for pages that take as long as they were asked to.
func TestAPageThatTakesLongerThanTheTimeouts(t *testing.T) {
	const window = 300 * time.Millisecond
	diagnose := func(ctx context.Context, window time.Duration) ([]byte, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(window):
			return []byte("{}"), nil
		}
	}
	for page, want := range map[string]int{
		fmt.Sprintf("/diagnose?seconds=%v", window.Seconds()): http.StatusOK,
		"/debug/pprof/profile?seconds=1":                      http.StatusOK,
		"/debug/pprof/profile?seconds=601":                    http.StatusBadRequest,
		"/debug/pprof/heap?seconds=601":                       http.StatusBadRequest,
		"/diagnose?seconds=601":                               http.StatusBadRequest,
	} {
		at := startAdmin(t, AdminOptions{Diagnose: diagnose}, func(a *Admin) {
			a.server.ReadTimeout = window / 10
			if strings.HasPrefix(page, "/diagnose") {
				a.server.WriteTimeout = window / 10 // the end of a profile takes longer
			}
		})
		answer := request(t, dial(t, "tcp", at), page)
		if text, err := io.ReadAll(answer.Body); answer.StatusCode != want || err != nil {
			t.Errorf("%s answers %d, want %d: %.100q", page, answer.StatusCode, want, text)
		}
	}
}

// Messages of the HTTP server go to the operator in a line, as all others.
func TestTroubleOfTheHTTPServerIsAlerted(t *testing.T) {
	alerts := make(chan string, 10)
	at := startAdmin(t, AdminOptions{
		Alert:    func(m string) { alerts <- m },
		Diagnose: func(context.Context, time.Duration) ([]byte, error) { panic("this is the bug") },
	}, nil)
	c := dial(t, "tcp", at)
	_, err := io.WriteString(c, "GET /diagnose HTTP/1.1\r\nHost: proxy\r\n\r\n")
	must(t, err)
	if answer, err := io.ReadAll(c); err != nil || len(answer) > 0 {
		t.Errorf("a page that panics is answered %q and %v", answer, err)
	}
	alert := <-alerts
	if !strings.HasPrefix(alert, "whyspin.admin: http: panic serving ") ||
		!strings.Contains(alert, "this is the bug") || strings.Contains(alert, "\n") {
		t.Errorf("the alert is %q", alert)
	}
}

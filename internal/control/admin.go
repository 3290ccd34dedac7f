package control

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/whyspin/whyspin/internal/engine"
)

// AdminOptions say what the HTTP endpoints serve.
type AdminOptions struct {
	Engine *engine.Engine
	// Listener is the open socket, Name what the configuration calls it. The Admin owns it from NewAdmin on.
	Listener net.Listener
	Name     string
	// MaxConns is the limit of connections, for which the process has kept descriptors back.
	MaxConns int
	// Users are the accounts for basic authentication; without any, everybody may.
	Users Users
	// Diagnose makes one diagnosis of this process over a window and returns it as JSON.
	Diagnose func(ctx context.Context, window time.Duration) ([]byte, error)
	// Profile watches this process over a window and returns a pprof file, compressed.
	Profile func(ctx context.Context, window time.Duration) ([]byte, error)
	// Findings is the number of findings so far by class; nil: none.
	Findings func() map[string]uint64
	// Alert takes a message for the operator; it must not block. nil drops them.
	Alert func(message string)
}

// Admin serves /metrics, /diagnose and /debug/pprof/.
type Admin struct {
	server   *http.Server
	listener net.Listener
	done     chan struct{}
}

// The limits of the HTTP endpoints. Who asks is known only when the request is there, so everybody can take
// a connection: one without a request goes soon, and after a refusal it does not stay.
const (
	adminReadTimeout  = 5 * time.Second // for a whole request, from the accept or from its first byte on
	adminIdleTimeout  = 10 * time.Second
	adminWriteTimeout = 10 * time.Second // for an answer, besides the time that the request says it may take
	adminMaxHeader    = 16 << 10
)

// The windows of /diagnose?seconds=N and /debug/pprof/whyspin?seconds=N, and the times that the longest page
// takes: a profile, whose default is that of net/http/pprof.
const (
	adminWindow     = 2 * time.Second
	adminOwnProfile = 10 * time.Second
	adminMaxWindow  = time.Minute
	adminProfile    = 30 * time.Second
	adminMaxProfile = 10 * time.Minute
)

// NewAdmin makes the endpoints. Start serves them.
func NewAdmin(o AdminOptions) *Admin {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{engine: o.Engine, findings: o.Findings})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /diagnose", overWindow(o.Diagnose, adminWindow, "application/json"))
	mux.HandleFunc("GET /debug/pprof/whyspin",
		overWindow(o.Profile, adminOwnProfile, "application/octet-stream"))
	mux.HandleFunc("/debug/pprof/", bounded(pprof.Index))
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", bounded(pprof.Profile))
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", bounded(pprof.Trace))
	return &Admin{
		listener: limit(o.Listener, "whyspin.admin "+o.Name, o.MaxConns, o.Alert), done: make(chan struct{}),
		server: &http.Server{
			Handler: o.Users.require(patient(mux)), ReadTimeout: adminReadTimeout,
			IdleTimeout: adminIdleTimeout, WriteTimeout: adminWriteTimeout, MaxHeaderBytes: adminMaxHeader,
			ErrorLog: log.New(alertWriter{o.Alert}, "", 0),
		},
	}
}

// Start serves until Close.
func (a *Admin) Start() {
	go func() {
		defer close(a.done)
		// It returns when the server is closed, and there is nobody to tell of another end.
		_ = a.server.Serve(a.listener)
	}()
}

// StopListening closes the socket. What is being served goes on.
func (a *Admin) StopListening() { _ = a.listener.Close() }

// Close breaks off what is being served.
func (a *Admin) Close() {
	_ = a.server.Close()
	<-a.done
}

// alertWriter makes an alert of what the HTTP server logs: one line, whatever stack comes with it.
type alertWriter struct{ alert func(string) }

func (w alertWriter) Write(p []byte) (int, error) {
	if w.alert != nil {
		w.alert("whyspin.admin: " + strings.Join(strings.Fields(string(p)), " "))
	}
	return len(p), nil
}

// patient gives a request the time that it asks for by seconds=N, which is that of a profile at least. The
// pages of net/http/pprof see to the deadline for writing themselves, but not to that for reading, and a
// connection on which reading times out is taken for one whose client has gone.
func patient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		longest := min(max(adminProfile, secondsOf(r)), adminMaxProfile)
		server := r.Context().Value(http.ServerContextKey).(*http.Server)
		deadlines, now := http.NewResponseController(w), time.Now()
		err := errors.Join(deadlines.SetReadDeadline(now.Add(longest+server.ReadTimeout)),
			deadlines.SetWriteDeadline(now.Add(longest+server.WriteTimeout)))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// secondsOf returns what a request has as seconds=N; 0 for what is no number, which is for the page to refuse
// or to ignore.
func secondsOf(r *http.Request) time.Duration {
	d, err := time.ParseDuration(r.URL.Query().Get("seconds") + "s")
	if err != nil {
		return 0
	}
	return d
}

// bounded refuses to serve a page of net/http/pprof, which knows no limit, for longer than is allowed.
func bounded(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if secondsOf(r) > adminMaxProfile {
			http.Error(w, fmt.Sprintf("seconds=%q: it must be at most %v", r.URL.Query().Get("seconds"),
				adminMaxProfile.Seconds()), http.StatusBadRequest)
			return
		}
		page(w, r)
	}
}

// overWindow serves what comes of watching this process over a window, whose length ?seconds=N gives.
func overWindow(watch func(context.Context, time.Duration) ([]byte, error), window time.Duration,
	kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		length := window
		if text := r.URL.Query().Get("seconds"); text != "" {
			d, err := time.ParseDuration(text + "s")
			if err != nil || d <= 0 || d > adminMaxWindow {
				http.Error(w, fmt.Sprintf("seconds=%q: it must be above 0 and at most %v", text,
					adminMaxWindow.Seconds()),
					http.StatusBadRequest)
				return
			}
			length = d
		}
		body, err := watch(r.Context(), length)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", kind)
		// A client that has gone is no error of ours.
		_, _ = w.Write(body)
	}
}

// Users are accounts for basic authentication: the hash of "user:password".
type Users map[[sha256.Size]byte]bool

// maxUsers bounds a file of users.
const maxUsers = 1000

// ReadUsers reads a file with a "user:password" on each line; empty lines and lines that begin with '#' are
// skipped. A file that everybody can read is an error.
func ReadUsers(path string) (Users, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the users of whyspin.admin-auth: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the users of whyspin.admin-auth: %w", err)
	}
	if info.Mode()&0o004 != 0 {
		return nil, fmt.Errorf("users of whyspin.admin-auth: %s can be read by everybody: chmod o-r it", path)
	}
	users := Users{}
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		if !ok || name == "" || password == "" {
			return nil, fmt.Errorf("%s:%d: not of the form user:password", path, n)
		}
		users[sha256.Sum256([]byte(line))] = true
		if len(users) > maxUsers {
			return nil, fmt.Errorf("%s:%d: more than %d users", path, n, maxUsers)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(users) == 0 {
		return nil, errors.New("whyspin.admin-auth: " + path + " names no user")
	}
	return users, nil
}

// require lets only the users pass, if there are any.
func (u Users) require(next http.Handler) http.Handler {
	if len(u) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, ok := r.BasicAuth()
		if !ok || !u.has(sha256.Sum256([]byte(name+":"+password))) {
			w.Header().Set("WWW-Authenticate", `Basic realm="whyspin"`)
			w.Header().Set("Connection", "close")
			http.Error(w, "a user and a password are needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// has compares with every account, so that the time it takes tells nothing.
func (u Users) has(given [sha256.Size]byte) bool {
	found := 0
	for known := range u {
		found |= subtle.ConstantTimeCompare(known[:], given[:])
	}
	return found == 1
}

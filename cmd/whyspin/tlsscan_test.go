package main

import (
	"encoding/json"
	"encoding/xml"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests of this file have scanners look for weaknesses in a bind as it is by default.

// scan is some of what testssl.sh looks for, over the route with this number, and what it has to say, by id.
type scan struct {
	name   string
	route  int
	checks []string
	want   map[string]string
}

// scans are all that it does without being asked, in three parts, for it takes long and mostly waits. Left
// out are the headers of HTTP (-h), which are the web server's.
var scans = []scan{
	{"offers", 0, []string{"-p", "-s", "-f", "-P", "-S", "-E"}, map[string]string{
		"SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered",
		"TLS1_2": "offered", "TLS1_3": "offered with final", "PFS": "offered", "cert_numbers": "2",
		"cert_keySize <cert#1>": "RSA 2048 bits", "cert_keySize <cert#2>": "EC 256 bits",
		"cert_chain_of_trust <cert#1>": "passed.", "cert_chain_of_trust <cert#2>": "passed.",
		"cipher_order": "server -- TLS 1.3 client determined", "sessionresumption_ticket": "supported",
	}},
	{"vulnerabilities", 1, []string{"-U", "-4", "-g"}, map[string]string{
		"heartbleed": "not vulnerable, no heartbeat extension", "CCS": "not vulnerable",
		"ticketbleed": "not vulnerable", "secure_renego": "supported",
		"secure_client_renego": "not vulnerable", "CRIME_TLS": "not vulnerable", "SWEET32": "not vulnerable",
		"FREAK": "not vulnerable", "RC4": "not vulnerable",
	}},
	{"clients", 0, []string{"-c"}, map[string]string{
		// Those that speak no TLS 1.2.
		"clientsimulation-ie_6_xp": "No connection", "clientsimulation-ie_8_win7": "No connection",
		"clientsimulation-ie_8_xp": "No connection", "clientsimulation-java_7u25": "No connection",
	}},
}

// TestTestsslFindsNothingAboveLow is that, with what else testssl.sh ought to say of a bind like this.
func TestTestsslFindsNothingAboveLow(t *testing.T) {
	x, a := startSecureCrossing(t, "")
	x.servesWeb()
	var running []*scanning
	for _, s := range scans {
		running = append(running, startTestssl(t, a, &x.routes[s.route], s.checks...))
	}
	weak := startTestssl(t, a, startWeak(t, a), "-s")
	for i, s := range scans {
		t.Run(s.name, func(t *testing.T) {
			said := running[i].result(t)
			for _, r := range serious(said) {
				t.Errorf("%s: %s: %s", r.Severity, r.ID, r.Finding)
			}
			for id, want := range s.want {
				if said[id].Finding != want {
					t.Errorf("%s is %q, should be %q", id, said[id].Finding, want)
				}
			}
			for id, r := range said {
				if r.Finding == "No connection" && s.want[id] == "" {
					t.Errorf("%s: %s", id, r.Finding)
				}
			}
		})
	}
	if r := serious(weak.result(t)); len(r) == 0 {
		t.Error("of a server with weak ciphers it has nothing to say")
	}
	if n := x.info("CumSslConns"); n < 200 {
		t.Errorf("it has made %d connections", n)
	}
	x.leftAsItWas()
}

// remark is what testssl.sh says about one thing.
type remark struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Finding  string `json:"finding"`
}

// scanning is a running testssl.sh.
type scanning struct {
	*background
	file string // where it writes what it says
}

// startTestssl has testssl.sh make some of its checks.
func startTestssl(t *testing.T, a *authority, r *route, checks ...string) *scanning {
	t.Helper()
	s := &scanning{file: write(t, "said.json", "")}
	address := []string{"--ip", r.host}
	if r.family == "IPv6" {
		address = []string{"-6", "--ip", "[" + r.host + "]"}
	}
	s.background = start(t, exec.Command(need(t, "testssl"), slices.Concat(checks, address, []string{
		"--quiet", "--warnings", "batch", "--color", "0", "--nodns", "none", "--add-ca", a.path("ca.pem"),
		"--jsonfile", s.file, "--append", secured + ":" + r.port})...))
	return s
}

// result waits for the end and returns the remarks by id.
func (s *scanning) result(t *testing.T) map[string]remark {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(10 * patience): // it takes half a minute where nothing else runs
		_ = s.Process.Kill()
		t.Fatalf("%s takes too long and says:\n%s", s.Args, s.said())
	}
	text, err := os.ReadFile(s.file)
	var all []remark
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if code := s.ProcessState.ExitCode(); err != nil || code != 0 {
		t.Fatalf("%s exits with %d (%v) and says:\n%s", s.Args, code, err, s.said())
	}
	said := map[string]remark{}
	for _, r := range all {
		said[r.ID] = r
	}
	return said
}

// serious returns what is above "low". That a check could not be made is, too.
func serious(said map[string]remark) (found []remark) {
	for _, r := range said {
		if !slices.Contains([]string{"OK", "INFO", "LOW"}, r.Severity) {
			found = append(found, r)
		}
	}
	return found
}

// startWeak runs a server that no scanner can like: it offers ciphers that encrypt nothing.
func startWeak(t *testing.T, a *authority) *route {
	t.Helper()
	r := &route{family: "IPv4", host: "127.0.0.1", port: freePort(t)}
	pair := a.issue("weak.pem", secured, newRSA(t))
	start(t, exec.Command(need(t, "openssl"), "s_server", "-accept", net.JoinHostPort(r.host, r.port),
		"-cert", pair, "-key", pair, "-tls1_2", "-cipher", "ALL:eNULL:@SECLEVEL=0", "-www", "-quiet"))
	eventually(t, "the weak server to answer", func() bool {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(r.host, r.port), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return r
}

// survey is what sslscan finds out.
type survey struct {
	Protocols []struct {
		Type    string `xml:"type,attr"`
		Version string `xml:"version,attr"`
		Enabled bool   `xml:"enabled,attr"`
	} `xml:"ssltest>protocol"`
	Renegotiation struct {
		Supported bool `xml:"supported,attr"`
		Secure    bool `xml:"secure,attr"`
	} `xml:"ssltest>renegotiation"`
	Heartbleed []struct {
		Vulnerable bool `xml:"vulnerable,attr"`
	} `xml:"ssltest>heartbleed"`
	Ciphers []struct {
		Version  string `xml:"sslversion,attr"`
		Name     string `xml:"cipher,attr"`
		Strength string `xml:"strength,attr"`
	} `xml:"ssltest>cipher"`
	Groups []struct {
		Name string `xml:"name,attr"`
		Bits int    `xml:"bits,attr"`
	} `xml:"ssltest>group"`
	Certificates []struct {
		SelfSigned bool `xml:"self-signed"`
		Expired    bool `xml:"expired"`
	} `xml:"ssltest>certificates>certificate"`
}

// sslscan runs sslscan over a route.
func sslscan(t *testing.T, r *route) (s survey) {
	t.Helper()
	file := write(t, "said.xml", "")
	o := execute(t, need(t, "sslscan"), "--sni-name="+secured, "--xml="+file,
		net.JoinHostPort(r.host, r.port))
	text, err := os.ReadFile(file)
	if err == nil {
		err = xml.Unmarshal(text, &s)
	}
	if err != nil || o.code != 0 {
		t.Fatalf("sslscan exits with %d (%v) and says:\n%s%s", o.code, err, o.out, o.errors)
	}
	return s
}

// weak returns the ciphers for which sslscan has a warning, and the number of those of each version.
func (s *survey) weak() (weak []string, of map[string]int) {
	of = map[string]int{}
	for _, c := range s.Ciphers {
		of[c.Version]++
		if c.Strength != "strong" && c.Strength != "acceptable" {
			weak = append(weak, c.Version+" "+c.Name+": "+c.Strength)
		}
	}
	return weak, of
}

// TestSslscanFindsNothing is that, and that it sees what there is to see.
func TestSslscanFindsNothing(t *testing.T) {
	x, a := startSecureCrossing(t, "")
	x.servesWeb()
	x.each(func(t *testing.T, r *route) {
		s := sslscan(t, r)
		var enabled []string
		for _, p := range s.Protocols {
			if p.Enabled {
				enabled = append(enabled, p.Type+p.Version)
			}
		}
		if len(s.Protocols) != 6 || strings.Join(enabled, " ") != "tls1.2 tls1.3" {
			t.Errorf("of %d protocols %q are spoken", len(s.Protocols), enabled)
		}
		weak, of := s.weak()
		if len(weak) > 0 || of["TLSv1.2"] == 0 || of["TLSv1.3"] == 0 || s.Renegotiation.Supported {
			t.Errorf("weak ciphers %q, ciphers %v, renegotiation %t", weak, of, s.Renegotiation.Supported)
		}
		for _, h := range s.Heartbleed {
			if h.Vulnerable {
				t.Error("it is vulnerable by heartbeats")
			}
		}
		for _, g := range s.Groups {
			if g.Bits < 112 {
				t.Errorf("the group %s has %d bits", g.Name, g.Bits)
			}
		}
		if len(s.Heartbleed) != 2 || len(s.Groups) == 0 || len(s.Certificates) == 0 ||
			s.Certificates[0].SelfSigned || s.Certificates[0].Expired {
			t.Errorf("it finds out %+v", s)
		}
	})
	s := sslscan(t, startWeak(t, a))
	if weak, of := s.weak(); len(weak) == 0 {
		t.Errorf("of a server with weak ciphers it has nothing to say but %v", of)
	}
}

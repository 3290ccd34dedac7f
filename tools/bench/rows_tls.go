package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// handshakesTogether is how many connections are in their handshake at a time: enough to keep one proxy
// thread busy.
const handshakesTogether = 16

// secureLine returns the functions that start the proxies with TLS before a server: whyspin, HAProxy, nginx.
func (b *bench) secureLine(i *identity) []func(server string) (*contestant, error) {
	secured := func(c *contestant, err error) (*contestant, error) {
		if err == nil {
			c.tls = client(theCurve)
		}
		return c, err
	}
	return []func(string) (*contestant, error){
		func(server string) (*contestant, error) {
			return secured(b.startWhyspin(server, proxyOptions{bind: " ssl crt " + i.file}))
		},
		func(server string) (*contestant, error) {
			return secured(b.startHAProxy("haproxy", server, proxyOptions{
				bind: " ssl crt " + i.file + " ciphersuites " + theSuiteName,
			}))
		},
		func(server string) (*contestant, error) {
			const more = ` ssl;
        ssl_certificate %[1]s;
        ssl_certificate_key %[1]s;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_conf_command Ciphersuites %[2]s`
			return secured(b.startNginxWith(server, fmt.Sprintf(more, i.file, theSuiteName)))
		},
	}
}

// secureLineUp starts the web server and these proxies, and sees that they speak as they should.
func (b *bench) secureLineUp(proxies []func(string) (*contestant, error)) ([]*contestant, error) {
	all, err := b.lineUp(proxies...)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		conn, err := c.open()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		conn.Close()
	}
	return all, nil
}

// secureContest plays a load over TLS, through whyspin, HAProxy and nginx.
func (b *bench) secureContest(unit string, targets map[string]goal,
	play func(*contestant, time.Duration) (sample, error), value func(sample) float64) (*result, error) {
	i, err := b.newIdentity(ellipticKey)
	if err != nil {
		return nil, err
	}
	all, err := b.secureLineUp(b.secureLine(i))
	if err != nil {
		return unlessMissing(unit, err)
	}
	samples, err := b.contest(b.roundsOr(defaultRounds), all, play)
	if err != nil {
		return unlessMissing(unit, err)
	}
	r := compare(unit, samples, targets, value)
	r.note("all speak TLS 1.3 with %s and %s", theSuiteName, theCurve)
	return r, nil
}

func (b *bench) tlsSmall() (*result, error) {
	return b.secureContest("us CPU/request", map[string]goal{"haproxy": {ratio: 1}},
		func(c *contestant, over time.Duration) (sample, error) {
			return b.wrk(c.address, load{connections: smallConnections, path: "/", over: over, secure: true})
		}, sample.microseconds)
}

func (b *bench) tlsBulk() (*result, error) {
	size := float64(bulkBody)
	if b.short {
		size = bulkBodyShort
	}
	return b.secureContest("ms CPU/GB", map[string]goal{"haproxy": {ratio: 1}},
		func(c *contestant, over time.Duration) (sample, error) {
			s, err := b.wrk(c.address,
				load{connections: bulkConnections, path: "/bulk", over: over, secure: true})
			s.units *= size / gigabyte
			return s, err
		}, func(s sample) float64 { return s.microseconds() / 1e3 })
}

// handshakeGoal is what a handshake may cost, and what one that takes up a session may.
const handshakeGoal = 1.1

func (b *bench) tlsHandshakeECDSA() (*result, error) {
	return b.handshakes(handshakes{kind: ellipticKey, target: goal{ratio: handshakeGoal}, wide: true})
}

// tlsHandshakeRSA has no goal: the signature of crypto/tls is slower than OpenSSL's, and most of it all.
func (b *bench) tlsHandshakeRSA() (*result, error) { return b.handshakes(handshakes{kind: rsaKey}) }

// handshakes is what sets a row of handshakes apart.
type handshakes struct {
	kind   keyKind
	target goal
	resume bool // they take up sessions
	wide   bool // nginx takes part, and whyspin by itself with the key exchange of modern clients
}

// hybrid is whyspin as clients find it that know the hybrid key exchange, which crypto/tls prefers.
const hybrid = "X25519MLKEM768"

// handshakes is a row of handshakes, with the share of the signature in full ones.
func (b *bench) handshakes(h handshakes) (*result, error) {
	const unit = "us CPU/connection"
	i, err := b.newIdentity(h.kind)
	if err != nil {
		return nil, err
	}
	line := b.secureLine(i)
	if !h.wide {
		line = line[:2]
	}
	all, err := b.secureLineUp(line)
	if err != nil {
		return unlessMissing(unit, err)
	}
	if h.wide {
		modern := *all[0]
		modern.name, modern.tls = hybrid, client(modernDefault)
		all = append(all, &modern)
	}
	samples, err := b.contest(b.roundsOr(defaultRounds), all,
		func(c *contestant, over time.Duration) (sample, error) {
			// Each of them costs the proxy ten times as much as a request, so half the time is enough.
			return shake(b.ctx, c, handshakesTogether, h.resume, over/2)
		})
	if err != nil {
		return unlessMissing(unit, err)
	}
	r := compare(unit, samples, map[string]goal{"haproxy": h.target}, sample.microseconds)
	r.note("all speak TLS 1.3 with %s and %s; each connection has a request and an answer, too", theSuiteName,
		theCurve)
	if h.resume {
		return r, nil
	}
	return r, b.noteSignatures(r, i, samples)
}

// noteSignatures says how much of a handshake is its signature, here and with OpenSSL.
func (b *bench) noteSignatures(r *result, i *identity, samples map[string][]sample) error {
	own, err := b.signing(i)
	if err != nil {
		return err
	}
	share := func(name string, signature time.Duration) {
		whole := median(apply(samples[name], sample.microseconds))
		us := signature.Seconds() * 1e6
		r.note("%-10s %s signature %.1f us, %.0f %% of it; the rest is %.1f us", name, i.kind.name, us,
			100*us/whole, whole-us)
	}
	share(whyspinName, own)
	theirs, err := b.opensslSigning(i.kind)
	if err != nil {
		return unlessMissingNote(r, err)
	}
	share("haproxy", theirs)
	return nil
}

// unlessMissingNote notes what is not installed.
func unlessMissingNote(r *result, err error) error {
	if _, missing := unlessMissing("", err); missing != nil {
		return missing
	}
	r.note("%v", err)
	return nil
}

// opensslRate is the column of signatures per second of "openssl speed".
var opensslRate = regexp.MustCompile(
	`(?m)^(?:rsa|\s*\d+ bits ecdsa).*?[0-9.]+s +[0-9.]+s +([0-9.]+) +[0-9.]+$`)

// opensslSigning is how much CPU time a signature takes OpenSSL.
func (b *bench) opensslSigning(kind keyKind) (time.Duration, error) {
	program, err := find("openssl")
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(b.ctx, program, "speed", "-seconds", "1", kind.openssl).Output()
	if err != nil {
		return 0, fmt.Errorf("running openssl: %w", err)
	}
	m := opensslRate.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("openssl speed printed no rate:\n%s", out)
	}
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || rate <= 0 {
		return 0, fmt.Errorf("openssl speed printed %q signatures per second", m[1])
	}
	return time.Duration(float64(time.Second) / rate), nil
}

func (b *bench) tlsResume() (*result, error) {
	return b.handshakes(handshakes{kind: ellipticKey, target: goal{ratio: handshakeGoal}, resume: true})
}

func (b *bench) tlsIdle() (*result, error) {
	const unit = "bytes/connection"
	i, err := b.newIdentity(ellipticKey)
	if err != nil {
		return nil, err
	}
	server, err := newEcho()
	if err != nil {
		return nil, err
	}
	defer server.close()
	samples, err := b.idleRounds(server.address, b.crowdSize()/2, b.secureLine(i)[:2]...)
	if err != nil {
		return unlessMissing(unit, err)
	}
	r := compare(unit, samples, map[string]goal{"haproxy": {ratio: 0.5}}, sample.bytes)
	b.judgeIdleCPU(r, samples)
	return r, nil
}

package main

import (
	"errors"
	"time"
)

// The loads of the rows that wrk plays.
const (
	smallConnections = 50
	bulkConnections  = 8
)

// rounds of the rows that are judged within a few percent: more than the least, since every round costs
// only seconds.
const (
	tcpRounds     = 7
	defaultRounds = leastRounds
)

const gigabyte = 1e9

// lineUp starts the web server and the proxies before it, whyspin first.
func (b *bench) lineUp(proxies ...func(server string) (*contestant, error)) ([]*contestant, error) {
	server, err := b.startWebServer()
	if err != nil {
		return nil, err
	}
	return b.inFrontOf(server, proxies...)
}

func (b *bench) inFrontOf(server string, proxies ...func(string) (*contestant, error)) ([]*contestant,
	error) {
	var all []*contestant
	for _, start := range proxies {
		c, err := start(server)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func (b *bench) plainWhyspin(server string) (*contestant, error) {
	return b.startWhyspin(server, proxyOptions{})
}

func (b *bench) plainHAProxy(server string) (*contestant, error) {
	return b.startHAProxy("haproxy", server, proxyOptions{})
}

// unlessMissing turns the error for something that is not installed into a row that was not measured.
func unlessMissing(unit string, err error) (*result, error) {
	var missing *missingError
	if errors.As(err, &missing) {
		return notMeasured(unit, "%v", missing), nil
	}
	return nil, err
}

func (b *bench) tcpSmall() (*result, error) {
	const unit = "us CPU/request"
	all, err := b.lineUp(b.plainWhyspin, b.plainHAProxy, b.startNginx)
	if err != nil {
		return unlessMissing(unit, err)
	}
	samples, err := b.contest(b.roundsOr(tcpRounds), all,
		func(c *contestant, over time.Duration) (sample, error) {
			return b.wrk(c.address, load{connections: smallConnections, path: "/", over: over})
		})
	if err != nil {
		return unlessMissing(unit, err)
	}
	return compare(unit, samples, map[string]goal{
		"haproxy": {ratio: 0.95, throughput: 1}, "nginx": {ratio: 1, throughput: 1},
	}, sample.microseconds), nil
}

// largeBuffers is HAProxy with the buffers that whyspin grows to by itself.
const largeBuffers = "haproxy 256k"

func (b *bench) tcpBulk() (*result, error) {
	const unit = "ms CPU/GB"
	all, err := b.lineUp(b.plainWhyspin, func(server string) (*contestant, error) {
		return b.startHAProxy("haproxy", server, proxyOptions{defaults: []string{"option splice-auto"}})
	}, func(server string) (*contestant, error) {
		return b.startHAProxy(largeBuffers, server, proxyOptions{global: []string{"tune.bufsize 262144"}})
	}, b.startNginx)
	if err != nil {
		return unlessMissing(unit, err)
	}
	size := float64(bulkBody)
	if b.short {
		size = bulkBodyShort
	}
	samples, err := b.contest(b.roundsOr(tcpRounds), all,
		func(c *contestant, over time.Duration) (sample, error) {
			s, err := b.wrk(c.address, load{connections: bulkConnections, path: "/bulk", over: over})
			s.units *= size / gigabyte
			return s, err
		})
	if err != nil {
		return unlessMissing(unit, err)
	}
	return compare(unit, samples, map[string]goal{
		"haproxy": {ratio: 0.5, throughput: 1.5}, largeBuffers: {ratio: 0.95},
	}, func(s sample) float64 { return s.microseconds() / 1e3 }), nil
}

// churnTogether is how many connections are open at a time, the largest number that keeps one proxy thread
// busy without queueing before it.
const churnTogether = 16

func (b *bench) tcpChurn() (*result, error) {
	const unit = "us CPU/connection"
	all, err := b.lineUp(b.plainWhyspin, b.plainHAProxy, b.startNginx)
	if err != nil {
		return unlessMissing(unit, err)
	}
	samples, err := b.contest(b.roundsOr(tcpRounds), all,
		func(c *contestant, over time.Duration) (sample, error) {
			return churn(b.ctx, c.address, churnTogether, over)
		})
	if err != nil {
		return unlessMissing(unit, err)
	}
	return compare(unit, samples, map[string]goal{"haproxy": {ratio: 0.95}}, sample.microseconds), nil
}

// tinyConnections is how many connections play ping-pong.
const tinyConnections = 200

func (b *bench) tcpTiny() (*result, error) {
	const unit = "us CPU/message"
	court, err := newCourt()
	if err != nil {
		return nil, err
	}
	defer court.close()
	all, err := b.inFrontOf(court.address, b.plainWhyspin, b.plainHAProxy, b.startNginx)
	if err != nil {
		return unlessMissing(unit, err)
	}
	samples, err := b.contest(b.roundsOr(tcpRounds), all,
		func(c *contestant, over time.Duration) (sample, error) {
			return court.play(b.ctx, c.address, tinyConnections, over)
		})
	if err != nil {
		return unlessMissing(unit, err)
	}
	return compare(unit, samples, map[string]goal{"haproxy": {ratio: 0.95}}, sample.microseconds), nil
}

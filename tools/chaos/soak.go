package main

import (
	"math/rand/v2"
	"strings"
	"time"
)

// soak is the scene of a machine that is saturated: a bounded number of connections, each of which sends
// its next request the moment it has the answer.
type soak struct {
	seed            uint64
	echoes, healthy [3]address
}

const soakDefaults = `
defaults
    mode tcp
    log global
    option tcplog
`

func newSoak(directory string, seed uint64) (*soak, error) {
	s := &soak{seed: seed}
	for _, set := range []*[3]address{&s.echoes, &s.healthy} {
		for i, family := range []string{"127.0.0.1", "::1", ""} {
			var err error
			if set[i], err = freeAddress(directory, family); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *soak) configuration(string) (string, error) {
	var b strings.Builder
	b.WriteString(soakDefaults + healthyTimeouts)
	for i, name := range []string{"soak4", "soak6", "soaku"} {
		front(&b, name, "", s.healthy[i:i+1], s.echoes[i].String())
	}
	return b.String(), nil
}

// How many connections of each kind there are at each of the three listeners.
const (
	soakRequests = 14 // small requests, on connections that stay for long
	soakBulk     = 2  // messages that fill every buffer
	soakChurn    = 2  // a connection for each request
)

func atOnce(*rand.Rand) time.Duration { return 0 }

// The kinds of talk.
var (
	requests = talk{messages: 20_000, size: func(r *rand.Rand) int { return 1 + r.IntN(smallMessage) },
		rest: atOnce}
	bulk  = talk{messages: 200, size: func(r *rand.Rand) int { return 1 + r.IntN(1<<20) }, rest: atOnce}
	churn = talk{messages: 1, size: func(r *rand.Rand) int { return 1 + r.IntN(smallMessage) }, rest: atOnce}
)

func (s *soak) measured() (client, server address) { return s.healthy[0], s.echoes[0] }

func (s *soak) begin(c *crew, _ *proxy) error {
	for _, at := range s.echoes {
		if err := c.serve(at, echo); err != nil {
			return err
		}
	}
	for i, at := range s.healthy {
		seed := s.seed + uint64(10*i)
		c.converse(at, nil, c.times*soakRequests, seed, requests)
		c.converse(at, nil, c.times*soakBulk, seed+1, bulk)
		c.converse(at, nil, c.times*soakChurn, seed+2, churn)
	}
	return nil
}

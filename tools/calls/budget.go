package main

import (
	"errors"
	"fmt"
)

// allowance is how many calls of one kind a unit of work may take, and what for.
type allowance struct {
	most float64
	why  string
}

// noise is how many calls per unit may come from what is no part of the work: strace that attaches in the
// middle of a call, and peers that are slowed down, so that what belongs together comes in two pieces.
const noise = 0.1

// perRequest is the budget of a request and its answer.
var perRequest = map[string]allowance{
	"recvfrom": {2, "the request from the client, the answer from the server"},
	"sendto":   {2, "the request to the server, the answer to the client"},
}

// perConnection is the budget of a connection with one request, which the server closes after its answer.
var perConnection = map[string]allowance{
	"accept4":   {1, "the connection; that there is no other one is not asked"},
	"socket":    {1, "for the server's connection"},
	"connect":   {1, "to the server; epoll tells the result"},
	"epoll_ctl": {2, "each descriptor is registered once, and leaves by being closed"},
	"recvfrom": {4, "the request, the answer, the client's end, and the server's unless it comes with the " +
		"answer"},
	"sendto":   {2, "the request and the answer"},
	"shutdown": {1, "the server's end is passed on"},
	"close":    {2, "both descriptors"},
}

// perAbort is the budget of a connection with one request that the client closes: then the server's end comes
// without an answer.
var perAbort = map[string]allowance{
	"accept4": perConnection["accept4"], "socket": perConnection["socket"],
	"connect": perConnection["connect"], "epoll_ctl": perConnection["epoll_ctl"],
	"recvfrom": {4, "the request, the answer, the client's end, the server's end"},
	"sendto":   perConnection["sendto"], "close": perConnection["close"],
	"shutdown": {1, "the client's end is passed on"},
}

// perHandshake is the budget of a connection over TLS with a full handshake and one request, which the server
// closes after its answer.
var perHandshake = map[string]allowance{
	"accept4": perConnection["accept4"], "socket": perConnection["socket"],
	"connect": perConnection["connect"], "epoll_ctl": perConnection["epoll_ctl"],
	"recvfrom": {6, "the client's two flights, the request, the answer, the client's end, and the server's " +
		"unless it comes with the answer"},
	"sendto":     {4, "the server's flight and the ticket, the request, the answer with the end in TLS"},
	"setsockopt": {1, "the client's last flight is acknowledged"},
	"shutdown":   perConnection["shutdown"], "close": perConnection["close"],
}

// check holds whyspin to the budget of a work, and to what HAProxy needs for it.
func (p pair) check() error {
	var wrong []error
	c := p.whyspin
	for _, name := range names(c) {
		allowed, ok := c.work.budget[name]
		if n := c.perUnit(c.calls[name]); !ok || n > allowed.most+noise {
			wrong = append(wrong, fmt.Errorf("%.2f calls of %s per %s, the budget has %g", n, name,
				c.work.unit, allowed.most))
		}
	}
	if n := c.perUnit(sum(c.again)); n > noise {
		wrong = append(wrong, fmt.Errorf("%.2f calls per %s return EAGAIN: %v", n, c.work.unit, c.again))
	}
	if own, peer := c.total(), p.haproxy.total(); own > peer+noise {
		wrong = append(wrong, fmt.Errorf("%.2f calls per %s, HAProxy makes %.2f", own, c.work.unit, peer))
	}
	return errors.Join(wrong...)
}

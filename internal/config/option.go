package config

import "strconv"

// option is a name after "option".
type option struct {
	side side
	// set switches it on or off.
	set func(d *draft, on bool)
}

// options are those without an argument of their own.
var options = map[string]option{
	"abortonclose":   {serverSide, func(d *draft, on bool) { d.AbortOnClose = on }},
	"clitcpka":       {clientSide, func(d *draft, on bool) { d.ClientKeepAlive = on }},
	"dontlog-normal": {clientSide, func(d *draft, on bool) { d.DontLogNormal = on }},
	"dontlognull":    {clientSide, func(d *draft, on bool) { d.DontLogNull = on }},
	"logasap":        {clientSide, func(d *draft, on bool) { d.LogAsap = on }},
	"redispatch":     {serverSide, setRedispatch},
	"srvtcpka":       {serverSide, func(d *draft, on bool) { d.ServerKeepAlive = on }},
	"tcpka":          {bothSides, func(d *draft, on bool) { d.ClientKeepAlive, d.ServerKeepAlive = on, on }},
	"tcplog":         {clientSide, func(d *draft, on bool) { d.TCPLog, d.LogFormat = on, nil }},
}

// setRedispatch sets what "option redispatch" without a number means: the last retry goes to another server.
func setRedispatch(d *draft, on bool) {
	d.Redispatch = 0
	if on {
		d.Redispatch = -1
	}
}

// proxyOption reads "option NAME", "no option NAME" and "default option NAME".
func (p *parser) proxyOption(d *draft, s *statement) {
	name, ok := s.argument("option", 1, "a name")
	if !ok {
		return
	}
	o, known := options[name]
	switch {
	case s.prefix != "" && notNegatableOptions[name]:
		s.errorf(`%q does not apply to "option %s"`, s.prefix, name)
	case name == "httplog" || name == "httpslog":
		p.optionHTTPLog(d, s)
	case known:
		p.setOption(d, s, name, o)
	case spliceOptions[name]:
		s.atMost("option "+name, 1)
	case ignoredOptions[name]:
		if s.prefix == "" {
			s.warnf(`"option %s" is ignored: it tunes a part of HAProxy that whyspin does not have`, name)
		}
	case unsupportedOptions[name]:
		if s.prefix == "" { // off is what they are
			s.errorf(`"option %s" %s`, name, notYet)
		}
	default:
		s.errorf("unknown option %s%s", quote(name), suggestion(name, optionNames))
	}
}

// setOption switches an option on or off. All of them are off by default, so that "default" switches off.
func (p *parser) setOption(d *draft, s *statement, name string, o option) {
	most := 1
	if name == "redispatch" && s.prefix == "" {
		most = 2
	}
	if !s.atMost("option "+name, most) {
		return
	}
	if o.side&d.kind.sides() == 0 {
		s.warnf(`"option %s" is ignored: %s has %s`, name, d.title(), missingSide(o.side))
		return
	}
	o.set(d, s.prefix == "")
	if text := s.word(2); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			s.errorf(`"option redispatch": %s is not a whole number`, quote(text))
			return
		}
		d.Redispatch = int(n)
	}
}

// optionHTTPLog does what HAProxy does in mode tcp: the tcplog format is used.
func (p *parser) optionHTTPLog(d *draft, s *statement) {
	name := s.word(1)
	if name == "httplog" && s.word(2) == "clf" {
		s.words = s.words[:2:2]
	}
	if !s.atMost("option "+name, 1) {
		return
	}
	if d.kind == sectionBackend {
		s.warnf(`"option %s" is ignored: %s has no client side`, name, d.title())
		return
	}
	s.warnf(`"option %s" needs mode http: "option tcplog" is used instead`, name)
	d.TCPLog, d.LogFormat = true, nil
}

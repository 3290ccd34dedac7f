package config

import (
	"slices"
	"strings"
)

// logFormats are the words after "format".
var logFormats = map[string]LogFormat{
	"local": LogLocal, "rfc3164": LogRFC3164, "rfc5424": LogRFC5424, "priority": LogPriority,
	"short": LogShort, "timed": LogTimed, "iso": LogISO, "raw": LogRaw,
}

// String returns the configuration's word for the format.
func (f LogFormat) String() string {
	for word, format := range logFormats {
		if format == f {
			return word
		}
	}
	return "unset"
}

// String returns a word for the kind.
func (k LogTargetKind) String() string { return [...]string{"udp", "unix", "fd", "global"}[k] }

// logFormatUnset marks a target without "format" until the whole global section is known: log-send-hostname
// changes the default.
const logFormatUnset LogFormat = 255

// logFacilities are the syslog facilities in the order of their numbers.
var logFacilities = strings.Fields("kern user mail daemon auth syslog lpr news uucp cron auth2 ftp ntp " +
	"audit alert cron2 local0 local1 local2 local3 local4 local5 local6 local7")

// logLevels are the syslog levels in the order of their numbers.
var logLevels = strings.Fields("emerg alert crit err warning notice info debug")

const logSyntax = "ADDRESS [len LENGTH] [format FORMAT] FACILITY [MAXLEVEL [MINLEVEL]]"

// readLog reads "no log", "log global" and "log ADDRESS ..." into targets. It returns whether there was no
// mistake.
func (p *parser) readLog(s *statement, targets *[]LogTarget, inGlobal bool) bool {
	switch {
	case s.prefix == "no":
		*targets = nil
		return s.atMost("no log", 0)
	case s.word(1) == "global" && !inGlobal:
		*targets = append(*targets, LogTarget{Position: s.Position, Kind: LogGlobal})
		return s.atMost("log global", 1)
	case s.word(1) == "" || s.word(2) == "":
		s.errorf(`"log" expects %s`, logSyntax)
		return false
	}
	target, ok := p.logTarget(s)
	if ok {
		*targets = append(*targets, target)
	}
	return ok
}

// logTarget reads the words of a log line. Their order is fixed, as in HAProxy.
func (p *parser) logTarget(s *statement) (LogTarget, bool) {
	t := LogTarget{Position: s.Position, MaxLen: defaultLogLength, Format: logFormatUnset}
	if !p.logAddress(s, &t) {
		return t, false
	}
	at, ok := 2, true
	if s.word(at) == "len" {
		if t.MaxLen, ok = s.number("log ... len", s.word(at+1), minLogLength, maxLogLength); !ok {
			return t, false
		}
		at += 2
	}
	if s.word(at) == "format" {
		if t.Format, ok = logFormats[s.word(at+1)]; !ok {
			s.errorf(`"log": unknown format %s, known ones are %s`, quote(s.word(at+1)),
				quoteAll(sortedKeys(logFormats)))
			return t, false
		}
		at += 2
	}
	if s.word(at) == "sample" {
		s.errorf(`"log": option "sample" %s`, notYet)
		return t, false
	}
	if t.Facility = slices.Index(logFacilities, s.word(at)); t.Facility < 0 {
		s.facilityError(s.word(at))
		return t, false
	}
	levels := [2]int{len(logLevels) - 1, 0}
	for i := range levels {
		if word := s.word(at + 1 + i); word != "" {
			if levels[i] = slices.Index(logLevels, word); levels[i] < 0 {
				s.errorf(`"log": unknown level %s, known ones are %s`, quote(word), quoteAll(logLevels))
				return t, false
			}
		}
	}
	t.MaxLevel, t.MinLevel = levels[0], levels[1]
	return t, s.atMost("log", at+2)
}

// facilityError explains what stands where the facility should be.
func (s *statement) facilityError(word string) {
	switch word {
	case "":
		s.errorf(`"log": missing facility; it expects %s`, logSyntax)
	case "len", "format":
		s.errorf(`"log": %q is in the wrong place or given twice; it expects %s`, word, logSyntax)
	default:
		s.errorf(`"log": unknown facility %s, known ones are kern, user, mail, daemon, auth, syslog, lpr, `+
			"news, uucp, cron, auth2, ftp, ntp, audit, alert, cron2 and local0 to local7", quote(word))
	}
}

// logAddress reads where the messages go.
func (p *parser) logAddress(s *statement, t *LogTarget) bool {
	text := s.words[1]
	switch text {
	case "stdout":
		text = "fd@1"
	case "stderr":
		text = "fd@2"
	case "global":
		s.errorf(`"log": "global" stands for the log lines of section global and cannot be used in it`)
		return false
	}
	a, _, err := p.address(text, logUse)
	if err != nil {
		s.errorf(`"log": %v`, err)
		return false
	}
	t.Address = a
	switch a.Kind {
	case AddressFD:
		t.Kind = LogFD
	case AddressUnix:
		t.Kind = LogUnix
	case AddressIP, AddressName, AddressNone:
		t.Kind = LogUDP
	}
	return true
}

// resolveLogs replaces "log global" by the global targets and the missing formats by the default one:
// "local", or "rfc3164" when log-send-hostname asks for a host name.
func (p *parser) resolveLogs() {
	g := &p.config.Global
	format := LogLocal
	if g.LogHostnameSet {
		format = LogRFC3164
	}
	for i := range g.Logs {
		if g.Logs[i].Format == logFormatUnset {
			g.Logs[i].Format = format
		}
	}
	for _, d := range p.proxies {
		var targets []LogTarget
		seen := false
		for _, t := range d.Logs {
			if t.Format == logFormatUnset {
				t.Format = format
			}
			switch {
			case t.Kind != LogGlobal:
				targets = append(targets, t)
			case !seen: // a second "log global", often inherited, adds nothing
				seen = true
				targets = append(targets, g.Logs...)
			}
		}
		d.Logs = targets
	}
}

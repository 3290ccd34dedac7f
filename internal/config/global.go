package config

import "strings"

// globalKeywords are the keywords of section global that whyspin obeys. Those that HAProxy has in common
// with the sections of proxies (log, log-tag, description, maxconn) are read by the same functions where
// they mean the same.
var globalKeywords = map[string]func(*parser, *statement){
	"ca-base":                         (*parser).globalBase,
	"chroot":                          (*parser).globalChroot,
	"crt-base":                        (*parser).globalBase,
	"daemon":                          (*parser).globalFlag,
	"description":                     (*parser).globalDescription,
	"gid":                             (*parser).globalOwner,
	"group":                           (*parser).globalOwner,
	"hard-stop-after":                 (*parser).globalHardStopAfter,
	"log":                             (*parser).globalLog,
	"log-send-hostname":               (*parser).globalLogSendHostname,
	"log-tag":                         (*parser).globalLogTag,
	"maxconn":                         (*parser).globalMaxConn,
	"maxsslconn":                      (*parser).globalTLSNumber,
	"maxsslrate":                      (*parser).globalTLSNumber,
	"maxpipes":                        (*parser).globalMaxPipes,
	"nbproc":                          (*parser).globalNbProc,
	"nbthread":                        (*parser).globalNbThread,
	"node":                            (*parser).globalNode,
	"nosplice":                        (*parser).globalFlag,
	"pidfile":                         (*parser).globalPIDFile,
	"presetenv":                       (*parser).globalSetEnv,
	"quiet":                           (*parser).globalFlag,
	"resetenv":                        (*parser).globalUnsetEnv,
	"setenv":                          (*parser).globalSetEnv,
	"ssl-default-bind-ciphers":        (*parser).globalTLSDefault,
	"ssl-default-bind-ciphersuites":   (*parser).globalTLSDefault,
	"ssl-default-bind-curves":         (*parser).globalTLSDefault,
	"ssl-default-bind-options":        (*parser).globalTLSOptions,
	"ssl-default-server-ciphers":      (*parser).globalTLSDefault,
	"ssl-default-server-ciphersuites": (*parser).globalTLSDefault,
	"ssl-default-server-options":      (*parser).globalTLSOptions,
	"ssl-dh-param-file":               (*parser).globalDH,
	"ssl-load-extra-del-ext":          (*parser).globalTLSFlag,
	"ssl-load-extra-files":            (*parser).globalExtraFiles,
	"ssl-server-verify":               (*parser).globalServerVerify,
	"ssl-skip-self-issued-ca":         (*parser).globalTLSFlag,
	"stats":                           (*parser).globalStats,
	"tune.bufsize":                    (*parser).globalBufferSize,
	"tune.pipesize":                   (*parser).globalPipeSize,
	"tune.maxaccept":                  (*parser).globalMaxAccept,
	"tune.ssl.cachesize":              (*parser).globalTLSNumber,
	"tune.ssl.default-dh-param":       (*parser).globalDH,
	"tune.ssl.lifetime":               (*parser).globalTLSLifetime,
	"tune.ssl.maxrecord":              (*parser).globalTLSNumber,
	"uid":                             (*parser).globalOwner,
	"ulimit-n":                        (*parser).globalULimitN,
	"unsetenv":                        (*parser).globalUnsetEnv,
	"user":                            (*parser).globalOwner,
	"zero-warning":                    (*parser).globalFlag,
}

// readGlobal reads a line of section global.
func (p *parser) readGlobal(s *statement) {
	keyword := s.words[0]
	if strings.HasPrefix(keyword, whyspinPrefix) {
		p.readWhyspin(s)
		return
	}
	if s.prefix != "" && !p.negatable(s) {
		return
	}
	read, known := globalKeywords[keyword]
	switch {
	case known:
		read(p, s)
	case ignoredGlobal[keyword]:
		s.warnf("%q is ignored: it tunes a part of HAProxy that whyspin does not have", keyword)
	case unsupportedGlobal[keyword]:
		s.errorf("%q %s", keyword, notYet)
	default:
		p.unknownKeyword(s, globalNames)
	}
}

// negatable reports whether "no" may stand before this keyword of section global, and is to be read at all:
// switching off what whyspin does not do anyway needs no further reading.
func (p *parser) negatable(s *statement) bool {
	keyword := s.words[0]
	switch {
	case s.prefix == "no" && keyword == "log":
		return true
	case s.prefix == "no" && negatableGlobal[keyword]:
		s.atMost("no "+keyword, 0)
	case globalKeywords[keyword] != nil || ignoredGlobal[keyword] || unsupportedGlobal[keyword]:
		s.errorf("%q does not apply to %q", s.prefix, keyword)
	default:
		p.unknownKeyword(s, globalNames)
	}
	return false
}

// once reports whether the keyword is seen for the first time. HAProxy keeps the first value of some
// settings and ignores the later ones; so does whyspin, with a warning.
func (p *parser) once(s *statement, keyword string) bool {
	if first, seen := p.seen[keyword]; seen {
		s.warnf("%q is ignored: it was already set at %v", keyword, first)
		return false
	}
	p.seen[keyword] = s.Position
	return true
}

func (p *parser) globalMaxConn(s *statement) {
	if n, ok := s.onlyNumber("maxconn", 0, maxCount); ok && p.once(s, "maxconn") {
		p.config.Global.MaxConn = n
	}
}

func (p *parser) globalNbThread(s *statement) {
	if n, ok := s.onlyNumber("nbthread", 1, maxThreads); ok {
		p.config.Global.NbThread = n
	}
}

// globalNbProc tolerates what whyspin does anyway. HAProxy refuses the keyword since version 2.5.
func (p *parser) globalNbProc(s *statement) {
	if s.word(1) == "1" && len(s.words) == 2 {
		s.warnf(`"nbproc" is ignored: there is always one process; "nbthread" sets the number of threads`)
		return
	}
	s.errorf(`"nbproc" %s: there is always one process; use "nbthread" for several threads`, notYet)
}

// globalOwner reads user, uid, group and gid. A name and a number for the same thing contradict each other.
func (p *parser) globalOwner(s *statement) {
	keyword := s.words[0]
	g, n := &p.config.Global, 0
	number := keyword == "uid" || keyword == "gid"
	expects := "a name"
	if number {
		expects = "a whole number"
	}
	text, ok := s.only(keyword, expects)
	if !ok {
		return
	}
	if number {
		if n, ok = s.number(keyword, text, 0, maxUserID); !ok {
			return
		}
	}
	other := map[string]string{"user": "uid", "uid": "user", "group": "gid", "gid": "group"}[keyword]
	if at, seen := p.seen[other]; seen {
		s.errorf("%q contradicts %q at %v: use one of them", keyword, other, at)
		return
	}
	if !p.once(s, keyword) {
		return
	}
	switch keyword {
	case "user":
		g.User, g.UserPos = text, s.Position
	case "group":
		g.Group, g.GroupPos = text, s.Position
	case "uid":
		g.UID, g.UserPos = n, s.Position
	case "gid":
		g.GID, g.GroupPos = n, s.Position
	}
}

func (p *parser) globalChroot(s *statement) {
	if text, ok := s.only("chroot", "a directory"); ok && p.once(s, "chroot") {
		p.config.Global.Chroot, p.config.Global.ChrootPos = text, s.Position
	}
}

func (p *parser) globalPIDFile(s *statement) {
	if text, ok := s.only("pidfile", "a file name"); ok && p.once(s, "pidfile") {
		p.config.Global.PIDFile = text
	}
}

// globalFlag reads the keywords without arguments.
func (p *parser) globalFlag(s *statement) {
	keyword := s.words[0]
	if !s.atMost(keyword, 0) {
		return
	}
	switch keyword {
	case "daemon":
		p.config.Global.Daemon = true
	case "nosplice":
		p.config.Global.NoSplice = true
	case "quiet":
		p.config.Global.Quiet = true
	case "zero-warning":
		if p.zeroWarning.Line == 0 {
			p.zeroWarning = s.Position
		}
	}
}

func (p *parser) globalNode(s *statement) {
	text, ok := s.only("node", "a name")
	if !ok {
		return
	}
	for i := range len(text) {
		if c := text[i]; !isNameByte(c) && c != '-' && c != '.' {
			s.errorf(`"node": %s may hold only letters, digits, ".", "-" and "_"`, quote(text))
			return
		}
	}
	p.config.Global.Node = text
}

func (p *parser) globalDescription(s *statement) {
	if _, ok := s.argument("description", 1, "a text"); ok {
		p.config.Global.Description = s.rest(1)
	}
}

func (p *parser) globalULimitN(s *statement) {
	if n, ok := s.onlyNumber("ulimit-n", 0, maxCount); ok && p.once(s, "ulimit-n") {
		p.config.Global.ULimitN = n
	}
}

func (p *parser) globalHardStopAfter(s *statement) {
	if text, ok := s.only("hard-stop-after", "a time"); ok {
		if d, ok := s.duration("hard-stop-after", text); ok {
			p.config.Global.HardStopAfter = d
		}
	}
}

func (p *parser) globalLog(s *statement) {
	if !p.readLog(s, &p.config.Global.Logs, true) {
		p.globalLogFailed = true
	}
}

func (p *parser) globalLogTag(s *statement) {
	if text, ok := s.only("log-tag", "a tag"); ok {
		p.config.Global.LogTag = text
	}
}

func (p *parser) globalLogSendHostname(s *statement) {
	if s.atMost("log-send-hostname", 1) {
		p.config.Global.LogSendHostname, p.config.Global.LogHostnameSet = s.word(1), true
	}
}

// globalBufferSize rounds up to a multiple of two words, as HAProxy does.
func (p *parser) globalBufferSize(s *statement) {
	if n, ok := s.onlyNumber("tune.bufsize", minBufferSize, maxBufferSize); ok {
		p.config.Global.BufferSize = (n + 15) &^ 15
	}
}

func (p *parser) globalMaxPipes(s *statement) {
	if n, ok := s.onlyNumber("maxpipes", 0, maxCount); ok {
		p.config.Global.MaxPipes = n
	}
}

func (p *parser) globalPipeSize(s *statement) {
	if n, ok := s.onlyNumber("tune.pipesize", 0, maxPipeSize); ok {
		p.config.Global.PipeSize = n
	}
}

func (p *parser) globalMaxAccept(s *statement) {
	if n, ok := s.onlyNumber("tune.maxaccept", -1, maxCount); ok && p.once(s, "tune.maxaccept") {
		if n == 0 {
			n = defaultMaxAccept // 0 asks for the default
		}
		p.config.Global.MaxAccept = n
	}
}

// globalSetEnv reads setenv, and presetenv, which keeps a value that is there already.
func (p *parser) globalSetEnv(s *statement) {
	keyword := s.words[0]
	name, value := s.word(1), s.word(2)
	switch {
	case name == "" || value == "":
		s.errorf("%q expects the name of a variable and a value", keyword)
		return
	case !s.atMost(keyword, 2):
		return
	case !validVariable(name):
		s.errorf("%q: %s cannot be the name of a variable", keyword, quote(name))
		return
	}
	if _, exists := p.env.get(name); exists && keyword == "presetenv" {
		return
	}
	if !p.env.set(name, value) {
		p.environmentFull(s)
	}
}

// globalUnsetEnv reads unsetenv, and resetenv, which removes all but the variables it names.
func (p *parser) globalUnsetEnv(s *statement) {
	keyword, names := s.words[0], s.words[1:]
	room := true
	if keyword == "resetenv" {
		room = p.env.reset(names)
	} else if _, ok := s.argument(keyword, 1, "the name of a variable"); ok {
		for _, name := range names {
			room = p.env.unset(name) && room
		}
	}
	if !room {
		p.environmentFull(s)
	}
}

func (p *parser) environmentFull(s *statement) {
	s.errorf("%q: the variables that are set take more than %d bytes", s.words[0], maxEnvironmentBytes)
	p.stopped = true
}

package config

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// File is a configuration file.
type File struct {
	// Name is how messages call it.
	Name string
	// Text is its content.
	Text []byte
}

// Options are what Parse knows of the process it runs in.
type Options struct {
	// LookupEnv returns the value of an environment variable and whether it exists, like os.LookupEnv; nil
	// stands for an empty environment. The configuration can change variables for its own lines (setenv);
	// the process is not touched.
	LookupEnv func(string) (string, bool)
	// AllowFaults permits whyspin.fault, which breaks the engine on purpose.
	AllowFaults bool
}

// Parse reads the files as one configuration, in their order, as HAProxy reads several -f. Sections do not
// reach over the end of a file. The error, when there is one, is an *Errors with all mistakes and warnings;
// then the Config is nil.
func Parse(files []File, opts Options) (*Config, error) {
	p := newParser(opts)
	for _, f := range files {
		p.config.Files = append(p.config.Files, f.Name)
		if !p.stopped {
			p.readFile(f)
		}
	}
	if !p.stopped {
		p.check()
	}
	if p.zeroWarning.Line > 0 {
		p.report.forbidWarnings(p.zeroWarning)
	}
	p.report.sort(p.config.Files)
	if p.report.failed() {
		return nil, &Errors{
			Diagnostics: p.report.list, Omitted: p.report.omitted(),
			Idle: p.idle && p.report.counts[Error] == 1,
		}
	}
	p.config.Warnings, p.config.OmittedWarnings = p.report.list, p.report.omitted()
	return p.config, nil
}

// parser is the state of one Parse.
type parser struct {
	opts   Options
	config *Config
	report *diagnostics
	env    *environment
	// stopped is set when a limit is reached: what follows is not read.
	stopped bool

	// The lines of the file that is being read, and the index of the current one.
	lines  []string
	number int
	// total counts the bytes of all files so far, expanded those of all words.
	total, expanded int

	blocks  []block
	section section

	// builtin are the defaults before any section, latest those of the last section defaults.
	builtin, latest *draft
	// defaults are the sections defaults by name.
	defaults map[string][]*draft
	// proxies are the sections in their order; frontends and backends know them by name.
	proxies             []*draft
	frontends, backends map[string]*draft
	// lost are the names of sections that could not be recognised, so that nobody is told that they do not
	// exist.
	lost map[string]bool
	// missed are the references that were reported: one in section defaults is inherited, and one message is
	// enough.
	missed map[reference]bool
	// alsoNamed are backends that a line without effect names.
	alsoNamed []reference

	// seen are the keywords of section global that may be given once.
	seen        map[string]Position
	proxyIDs    map[int]Position
	zeroWarning Position
	// globalLogFailed is set when a log line of section global had a mistake.
	globalLogFailed bool
	// idle is set when nothing listens.
	idle bool
	// sections, listeners and servers count towards their limits.
	sections, listeners, servers int

	// tls are the lines that speak TLS, the others what section global says for all of them.
	tls                          []pendingTLS
	bindDefaults, serverDefaults tlsDefaults
}

func newParser(opts Options) *parser {
	builtin := newDefaults()
	return &parser{
		opts:   opts,
		report: &diagnostics{},
		env:    newEnvironment(opts.LookupEnv),
		config: &Config{Global: Global{
			UID: -1, GID: -1,
			StatsTimeout: defaultStatsTimeout, StatsMaxConn: defaultStatsMaxConn,
			LogTag: "whyspin", BufferSize: defaultBufferSize, MaxAccept: defaultMaxAccept,
			TLS: GlobalTLS{
				CacheSize: defaultTLSCacheSize, Lifetime: defaultTLSLifetime,
				Extra: ExtraFiles{Bundle: true, SCTL: true, OCSP: true, Issuer: true, Key: true},
			},
		}},
		builtin: builtin, latest: builtin, defaults: map[string][]*draft{},
		frontends: map[string]*draft{}, backends: map[string]*draft{}, lost: map[string]bool{},
		missed: map[reference]bool{},
		seen:   map[string]Position{}, proxyIDs: map[int]Position{},
	}
}

// readFile reads one file.
func (p *parser) readFile(f File) {
	p.section = section{}
	if p.total += len(f.Text); p.total > maxTotalBytes {
		p.report.errorf(Position{f.Name, 1}, "the configuration is larger than %d bytes", maxTotalBytes)
		p.stopped = true
		return
	}
	text := f.Text
	if rest, found := bytes.CutPrefix(text, []byte("\xef\xbb\xbf")); found {
		p.report.errorf(Position{f.Name, 1}, "the file begins with a byte order mark: save it without one")
		text = rest
	}
	if len(text) == 0 {
		return
	}
	cut := text[len(text)-1] != '\n'
	p.lines = strings.Split(string(bytes.TrimSuffix(text, []byte("\n"))), "\n")
	for p.number = 0; p.number < len(p.lines) && !p.stopped; p.number++ {
		at := Position{f.Name, p.number + 1}
		p.readLine(at, p.lines[p.number])
		if p.report.counts[Error] >= maxErrors {
			p.report.errorf(at, "more than %d errors: what follows is not read", maxErrors)
			p.stopped = true
		}
	}
	if p.stopped {
		return
	}
	if cut {
		p.report.errorf(Position{f.Name, len(p.lines)}, "the last line does not end with a newline: "+
			"the file may have been cut off")
	}
	p.endBlocks()
}

// readLine reads one line.
func (p *parser) readLine(at Position, line string) {
	if beginsPEM(line) {
		p.skipPEM(at)
		return
	}
	words, ok := p.words(at, line)
	if !ok || len(words) == 0 {
		return
	}
	s := &statement{Position: at, words: words, report: p.report}
	errors := p.report.counts[Error]
	switch {
	case strings.HasPrefix(words[0], "."):
		p.directive(s)
		return
	case !p.reading():
		return
	case !p.readPrefix(s) || p.beginSection(s):
	case p.section.kind == sectionUnknown:
		return
	default:
		p.dispatch(s)
	}
	if p.report.counts[Error] > errors {
		p.doubt()
		return
	}
	for _, word := range words {
		if !utf8.ValidString(word) {
			s.warnf("%s is not UTF-8", quote(word))
		}
	}
}

// beginsPEM reports whether a line is the first one of a certificate or a key.
func beginsPEM(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "-----BEGIN ") }

// skipPEM passes over a certificate or a key that has got here by mistake: messages about its lines would
// show them.
func (p *parser) skipPEM(at Position) {
	if p.reading() {
		p.report.errorf(at, `certificates and keys have files of their own, for "crt" or "ca-file" to name`)
		p.doubt()
	}
	for p.number+1 < len(p.lines) && !strings.Contains(p.lines[p.number], "-----END ") {
		p.number++
	}
}

// doubt remembers that a line of the section had a mistake.
func (p *parser) doubt() {
	if p.section.draft != nil {
		p.section.draft.doubtful = true
	}
}

// readPrefix moves "no" or "default" at the beginning of a line into its prefix. It returns false when no
// keyword follows; HAProxy passes silently over a line that begins with an empty word, which an unset
// variable leaves.
func (p *parser) readPrefix(s *statement) bool {
	if s.words[0] == "no" || s.words[0] == "default" {
		s.prefix, s.words = s.words[0], s.words[1:]
	}
	switch {
	case s.word(0) != "":
		return true
	case p.section.kind == sectionUnknown:
	case s.prefix != "":
		s.errorf("%q without a keyword after it", s.prefix)
	default:
		s.warnf("the line is ignored: its first word is empty (a variable that is not set?)")
	}
	return false
}

// dispatch hands a line to the section it stands in.
func (p *parser) dispatch(s *statement) {
	switch p.section.kind {
	case sectionNone:
		if p.looksLikeSection(s.words[0], slices.Concat(globalNames, proxyNames)) {
			p.unknownSection(s)
			return
		}
		s.errorf("keyword %s before the first section", quote(s.words[0]))
		p.section.kind = sectionUnknown // the lines that follow have the same fault
	case sectionGlobal:
		p.readGlobal(s)
	case sectionDefaults, sectionFrontend, sectionBackend, sectionListen:
		p.readProxy(p.section.draft, s)
	case sectionUnknown:
	}
}

// words cuts a line into words. It reports what is wrong, also in a part that .if skips, as HAProxy does,
// but not in a section that is passed over.
func (p *parser) words(at Position, line string) ([]string, bool) {
	quiet := p.section.kind == sectionUnknown
	switch {
	case len(line) > maxLineBytes:
		p.report.errorf(at, "the line is longer than %d bytes", maxLineBytes)
		return nil, false
	case strings.IndexByte(line, 0) >= 0:
		p.report.errorf(at, "zero byte in column %d: this is not a text file", strings.IndexByte(line, 0)+1)
		return nil, false
	}
	x := lexer{text: line, lookup: func(name string) (string, bool) { return p.lookup(name, at) }}
	words, err := x.split()
	p.expanded += x.size
	switch {
	case p.expanded > maxExpandedBytes:
		p.report.errorf(at, "with its variables expanded, the configuration is larger than %d bytes",
			maxExpandedBytes)
		p.stopped = true
		return nil, false
	case err != nil:
		if !quiet {
			p.report.add(at, Error, err.Error())
			p.doubt()
		}
		return nil, false
	}
	return words, true
}

// lookup returns the value of a variable or pseudo-variable.
func (p *parser) lookup(name string, at Position) (string, bool) {
	switch name {
	case ".FILE":
		return at.File, true
	case ".LINE":
		return strconv.Itoa(at.Line), true
	case ".SECTION":
		return p.section.name, true
	}
	if strings.HasPrefix(name, ".") {
		return "", false
	}
	return p.env.get(name)
}

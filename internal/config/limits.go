package config

import (
	"math"
	"time"
)

// Limits of what Parse accepts. They are far above any configuration written by hand, and they keep a
// generated or broken one from taking memory without bound: every line costs a bounded amount, and the
// number of lines is bounded.
const (
	// maxTotalBytes is the size of all files together. The largest configurations known have some ten
	// thousand backends in a few MiB.
	maxTotalBytes = 16 << 20
	// maxLineBytes is the length of one line, before and after variables are expanded. HAProxy starts with
	// 2048 bytes and grows; what is longer than this is a file that is no configuration.
	maxLineBytes = 64 << 10
	// maxWords is the number of words of one line; HAProxy has 64, too few for a long list of servers in a
	// variable.
	maxWords = 256
	// maxExpandedBytes bounds what all lines together hold once variables are expanded: a line of ten bytes
	// may expand to maxLineBytes.
	maxExpandedBytes = 64 << 20
	// maxEnvironmentBytes bounds the variables that setenv and presetenv create, names included.
	maxEnvironmentBytes = 1 << 20
	// maxBlocks is how deep .if blocks nest, as in HAProxy.
	maxBlocks = 100
	// maxConditionDepth is how deep parentheses and exclamation marks nest in a condition: it bounds the
	// stack.
	maxConditionDepth = 100
	// maxProxies bounds the sections frontend, backend, listen and defaults.
	maxProxies = 100_000
	// maxListeners bounds the listening addresses after port ranges are expanded: each takes a descriptor
	// and a line in every dump. It is one whole port range on each of two addresses.
	maxListeners = 1 << 17
	// maxServers bounds the servers of all backends together.
	maxServers = 1 << 18
	// maxDiagnostics is how many errors, and how many warnings, are kept; the rest is counted.
	maxDiagnostics = 1000
	// maxErrors is how many errors end the reading: nobody corrects that many at once. It is below
	// maxDiagnostics, so that the message that says so is kept.
	maxErrors = 900
	// maxCandidates is the number of names above which none is suggested: comparing takes time for each.
	maxCandidates = 1000
	// maxShown is how many diagnostics Errors.Error prints: more than one screen helps nobody.
	maxShown = 100
	// maxQuoted is how many bytes of a word a message repeats.
	maxQuoted = 80
)

// Bounds of values, those of HAProxy 2.6 where it has one.
const (
	// maxCount is the largest count or limit: HAProxy keeps them in a C int.
	maxCount = math.MaxInt32
	// maxTime is the longest time: HAProxy's timers are milliseconds in a C int.
	maxTime = math.MaxInt32 * time.Millisecond
	// maxThreads is HAProxy's MAX_THREADS on 64-bit machines.
	maxThreads = 64
	// maxWeight is the weight of a server above which HAProxy refuses.
	maxWeight = 256
	// maxPort is the largest TCP or UDP port.
	maxPort = math.MaxUint16
	// maxUserID is the largest user or group id; the one above means "no change" to chown(2).
	maxUserID = math.MaxUint32 - 1
	// maxUnixPath is the longest socket path: sun_path of unix(7) has 108 bytes, one for the terminating
	// zero.
	maxUnixPath = 107
	// maxHostName is the longest host name, RFC 1035 section 2.3.4.
	maxHostName = 253
	// minBufferSize and maxBufferSize bound tune.bufsize. HAProxy crashes on a few bytes and refuses 256
	// MiB.
	minBufferSize = 1 << 10
	maxBufferSize = 256<<20 - 1
	// maxPipeSize bounds tune.pipesize: fcntl(2) takes no more.
	maxPipeSize = 1 << 30
	// minLogLength and maxLogLength bound "log ... len", as in HAProxy.
	minLogLength = 80
	maxLogLength = math.MaxUint16
)

// Defaults that HAProxy 2.6 documents.
const (
	defaultStatsTimeout = 10 * time.Second
	defaultStatsMaxConn = 10
	defaultBufferSize   = 16 << 10
	defaultMaxAccept    = 4
	defaultRetries      = 3
	defaultWeight       = 1
	defaultLogLength    = 1024
	defaultSyslogPort   = 514
	// firstProxyID is the number of the first proxy without an explicit one: HAProxy gives 1 to its own
	// front of the runtime API.
	firstProxyID = 2
)

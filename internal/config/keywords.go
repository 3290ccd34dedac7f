package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The tables in this file are what HAProxy 2.6 knows and whyspin does not do, so that a message can tell a
// keyword that is not supported from one that does not exist. A keyword leaves its table when it is
// implemented.

// nameSet is a set of keywords.
type nameSet map[string]bool

func setOf(lists ...string) nameSet {
	set := nameSet{}
	for _, list := range lists {
		for name := range strings.FieldsSeq(list) {
			set[name] = true
		}
	}
	return set
}

// arities reads a table of options with the number of their values: "name" has none, "name+1" one, "name+*"
// takes the rest of the line.
func arities(list string) map[string]int {
	table := map[string]int{}
	for entry := range strings.FieldsSeq(list) {
		name, count, _ := strings.Cut(entry, "+")
		n, err := strconv.Atoi(count)
		if err != nil && count == "*" {
			n = -1
		}
		table[name] = n
	}
	return table
}

// merge returns the entries of both tables.
func merge(a, b map[string]int) map[string]int {
	both := maps.Clone(a)
	maps.Copy(both, b)
	return both
}

// ignoredGlobal are keywords that tune parts of HAProxy which whyspin has not: without them it does the
// same.
var ignoredGlobal = setOf(`
	close-spread-time expose-experimental-directives external-check h1-accept-payload-with-any-method
	h2-workaround-bogus-websocket-clients httpclient.resolvers.id httpclient.resolvers.prefer
	httpclient.ssl.ca-file httpclient.ssl.verify insecure-fork-wanted insecure-setuid-wanted localpeer
	max-spread-checks maxcompcpuusage maxcomprate maxzlibmem mworker-max-reloads no-memory-trimming
	noepoll noevports nogetaddrinfo nokqueue nopoll noreuseport numa-cpu-mapping
	pp2-never-send-local profiling.memory profiling.tasks spread-checks strict-limits thread-group
	thread-groups`, `
	tune.buffers.limit tune.buffers.reserve tune.comp.maxlevel tune.fail-alloc tune.fd.edge-triggered
	tune.h2.header-table-size tune.h2.initial-window-size tune.h2.max-concurrent-streams
	tune.h2.max-frame-size tune.http.cookielen tune.http.logurilen tune.http.maxhdr
	tune.idle-pool.shared tune.idletimer tune.listener.multi-queue tune.lua.forced-yield
	tune.lua.maxmem tune.lua.service-timeout tune.lua.session-timeout tune.lua.task-timeout
	tune.maxpollevents tune.maxrewrite tune.pattern.cache-size tune.peers.max-updates-at-once
	tune.pool-high-fd-ratio tune.pool-low-fd-ratio
	tune.quic.frontend.conn-tx-buffers.limit tune.quic.frontend.max-idle-timeout
	tune.quic.frontend.max-streams-bidi tune.quic.retry-threshold tune.rcvbuf.client tune.rcvbuf.server
	tune.recv_enough tune.runqueue-depth tune.sched.low-latency tune.sndbuf.client tune.sndbuf.server
	tune.ssl.capture-buffer-size tune.ssl.capture-cipherlist-size tune.ssl.force-private-cache
	tune.ssl.hard-maxrecord tune.ssl.keylog tune.ssl.ssl-ctx-cache-size tune.vars.check-max-size
	tune.vars.global-max-size tune.vars.proc-max-size tune.vars.reqres-max-size tune.vars.sess-max-size
	tune.vars.txn-max-size tune.zlib.memlevel tune.zlib.windowsize`)

// unsupportedGlobal are keywords whose absence a user would notice.
var unsupportedGlobal = setOf(`
	51degrees-cache-size 51degrees-data-file 51degrees-property-name-list 51degrees-property-separator
	busy-polling cluster-secret cpu-map default-path deviceatlas-json-file deviceatlas-log-level
	deviceatlas-properties-cookie deviceatlas-separator fd-hard-limit grace h1-case-adjust
	h1-case-adjust-file issuers-chain-path lua-load lua-load-per-thread lua-prepend-path master-worker
	maxconnrate maxsessrate server-state-base server-state-file set-dumpable set-var set-var-fmt
	ssl-engine ssl-mode-async ssl-propquery ssl-provider ssl-provider-path unix-bind wurfl-cache-size
	wurfl-data-file wurfl-information-list wurfl-information-list-separator wurfl-patch-file`)

// negatableGlobal are the keywords that HAProxy takes after "no". Without them whyspin behaves as they ask
// for.
var negatableGlobal = setOf(`busy-polling h2-workaround-bogus-websocket-clients insecure-fork-wanted
	insecure-setuid-wanted numa-cpu-mapping set-dumpable strict-limits`)

// unsupportedProxy are the other keywords of frontends and backends.
var unsupportedProxy = setOf(`
	capture clitcpka-cnt clitcpka-idle clitcpka-intvl compression cookie declare dispatch
	dynamic-cookie-key email-alert error-log-format errorfile errorfiles errorloc errorloc302 errorloc303
	external-check filter force-persist hash-type http-after-response http-check http-error http-request
	http-response http-reuse http-send-name-header ignore-persist load-server-state-from-file log-format-sd
	 max-keep-alive-queue monitor monitor-uri persist rate-limit redirect retry-on
	server-state-file-name server-template source srvtcpka-cnt srvtcpka-idle srvtcpka-intvl stats stick
	stick-table tcp-check tcp-response transparent unique-id-format unique-id-header
	use-fcgi-app use-server`)

// removedProxy are keywords that HAProxy itself no longer has, with what replaces them.
var removedProxy = map[string]string{
	"block":       `"http-request deny"`,
	"clitimeout":  `"timeout client"`,
	"contimeout":  `"timeout connect"`,
	"grace":       `"hard-stop-after" in section global`,
	"monitor-net": `"http-request return"`,
	"redispatch":  `"option redispatch"`,
	"reqadd":      `"http-request add-header"`,
	"rspadd":      `"http-response add-header"`,
	"srvtimeout":  `"timeout server"`,
}

// unsupportedOptions are the other names after "option".
var unsupportedOptions = setOf(`
	accept-invalid-http-request accept-invalid-http-response allbackups checkcache disable-h2-upgrade
	external-check forwardfor h1-case-adjust-bogus-client h1-case-adjust-bogus-server
	http-buffer-request http-ignore-probes http-keep-alive http-no-delay http-pretend-keepalive
	http-restrict-req-hdr-names http-server-close http-use-proxy-header httpchk httpclose
	idle-close-on-response independent-streams ldap-check log-health-checks log-separate-errors
	mysql-check nolinger originalto persist pgsql-check prefer-last-server redis-check smtpchk
	socket-stats spop-check ssl-hello-chk tcp-check transparent`)

// ignoredOptions only choose how HAProxy does its work: delayed acknowledgements, when counters are added up.
var ignoredOptions = setOf("contstats tcp-smart-accept tcp-smart-connect")

// spliceOptions ask for what whyspin does by itself where it is the cheaper way.
var spliceOptions = setOf("splice-auto splice-request splice-response")

// notNegatableOptions are those before which HAProxy takes no "no".
var notNegatableOptions = setOf(`external-check forwardfor http-restrict-req-hdr-names httpchk httplog
	httpslog ldap-check mysql-check originalto pgsql-check redis-check smtpchk spop-check ssl-hello-chk
	tcp-check tcpka tcplog`)

// unsupportedBind are the other options of bind and "stats socket" lines.
var unsupportedBind = arities(`
	accept-netscaler-cip+1 ca-ignore-err+1 ca-sign-file+1 ca-sign-pass+1 ca-verify-file+1
	crt-ignore-err+1 defer-accept expose-fd+1 generate-certificates interface+1 level+1 mss+1
	namespace+1 nice+1 process+1 proto+1 severity-output+1 shards+1 tcp-ut+1 tfo thread+1 transparent`)

// unsupportedStats are those of "stats socket" lines: some options of bind make no sense there yet.
var unsupportedStats = merge(unsupportedBind, arities(`
	accept-proxy
	allow-0rtt alpn+1 backlog+1 ca-file+1 ciphers+1 ciphersuites+1 crl-file+1 crt+1 crt-list+1 curves+1
	ecdhe+1 force-sslv3 force-tlsv10 force-tlsv11 force-tlsv12 force-tlsv13 maxconn+1 no-ca-names no-sslv3
	no-tls-tickets no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13 npn+1 prefer-client-ciphers ssl ssl-max-ver+1
	ssl-min-ver+1 strict-sni tls-ticket-keys+1 v4v6 v6only verify+1`))

// unsupportedServer are the other options of server and default-server lines.
var unsupportedServer = arities(`
	addr+1 agent-addr+1 agent-check agent-inter+1 agent-port+1 agent-send+1 check check-proto+1
	check-send-proxy check-via-socks4 cookie+1 downinter+1 error-limit+1 fall+1 fastinter+1 init-addr+1
	inter+1 log-proto+1 max-reuse+1 maxqueue+1 minconn+1 namespace+1 non-stick observe+1 on-error+1
	on-marked-down+1 on-marked-up+1 pool-low-conn+1 pool-max-conn+1 pool-purge-delay+1 port+1 proto+1
	redir+1 resolve-net+1 resolve-opts+1 resolve-prefer+1 resolvers+1 rise+1
	shard+1 slowstart+1 socks4+1
	source+* stick tcp-ut+1 tfo track+1 usesrc+1 ws+1`)

// idleServer are options that ask a server not to do what no server of whyspin does.
var idleServer = setOf(`no-agent-check no-check no-check-send-proxy no-tfo`)

// algorithms are the other words after "balance", without their arguments in parentheses.
var algorithms = setOf(`first hash hdr leastconn random rdp-cookie source static-rr uri url_param`)

// unsupportedSections are the sections of HAProxy that whyspin has not.
var unsupportedSections = setOf(`cache fcgi-app http-errors log-forward mailers peers program resolvers
	ring userlist`)

// sectionNames are the sections there are.
var sectionNames = []string{"global", "defaults", "frontend", "backend", "listen"}

// globalNames, proxyNames and optionNames are all that may stand in these places, for suggestions: what is
// supported comes first.
var (
	globalNames = slices.Concat(sortedKeys(globalKeywords), sortedKeys(whyspinKeywords),
		sortedKeys(ignoredGlobal), sortedKeys(unsupportedGlobal))
	proxyNames  = slices.Concat(sortedKeys(proxyKeywords), sortedKeys(unsupportedProxy))
	optionNames = slices.Concat(sortedKeys(options), sortedKeys(spliceOptions),
		sortedKeys(ignoredOptions), sortedKeys(unsupportedOptions))
)

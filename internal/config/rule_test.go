package config

import (
	"strings"
	"testing"
)

// ruleLines are lines of a frontend on which HAProxy and whyspin must decide alike, or there is a reason why
// not. A "|" begins the next line.
var ruleLines = []struct{ lines, differs string }{
	{lines: "acl a src 10.0.0.0/8 192.168.1.1 ::1"}, {lines: "acl a src 10.0.0.0/255.255.0.0"},
	{lines: "acl a src 10.0.0.0/33"}, {lines: "acl a src localnet"}, {lines: "acl a src"},
	{lines: "acl a"}, {lines: "acl"}, {lines: "acl or src ::1"}, {lines: "acl a,b src ::1"},
	{lines: "acl a dst_port 443 1024:65535 :10 100:"}, {lines: "acl a dst_port ge 1024 lt 5"},
	{lines: "acl a dst_port eq"}, {lines: "acl a dst_port 1:x"}, {lines: "acl a dst_port 9:1"},
	{lines: "acl a dst_port -1"}, {lines: "acl a dst_port -- -1"},
	{lines: "acl a dst_port gt 1:5", differs: "an operator does not go with a range"},
	{lines: "acl a ssl_fc"}, {lines: "acl a ssl_fc 1", differs: "HAProxy ignores the pattern"},
	{lines: "acl a ssl_fc_sni -i example.com .example.com"},
	{lines: "acl a ssl_fc_sni -m end -i .example.com"}, {lines: "acl a ssl_fc_sni_end .example.com"},
	{lines: "acl a ssl_fc_sni_reg -i ^a.*z$"}, {lines: "acl a ssl_fc_sni_beg a"},
	{lines: "acl a ssl_fc_sni -m beg a|acl a ssl_fc_sni -m sub b|acl a ssl_fc_sni -m dom c"},
	{lines: "acl a ssl_fc_sni -m dir a|acl b ssl_fc_sni -m len 3:5|acl b ssl_fc_sni -m found"},
	{lines: "acl a ssl_fc_sni -m found x", differs: "HAProxy ignores the pattern"},
	{lines: "acl a ssl_fc_sni -m nosuch x"}, {lines: "acl a ssl_fc_sni -m"}, {lines: "acl a ssl_fc_sni -q x"},
	{lines: "acl a ssl_fc_sni -m reg a(b"}, {lines: "acl a ssl_fc_sni -f /nonexistent"},
	{lines: "acl a ssl_fc_sni -m reg a(?=b)", differs: "package regexp has no assertions"},
	{lines: "acl a ssl_c_verify 0"}, {lines: "acl a ssl_c_s_dn(CN) -m str x"},
	{lines: "acl a ssl_c_s_dn(CN,1) x|acl a ssl_c_s_dn(CN,-1) x|acl a ssl_c_s_dn x"},
	{lines: "acl a ssl_c_s_dn(CN,x) y"}, {lines: "acl a ssl_c_sha1,hex 00FF"},
	{lines: "acl a ssl_c_sha1 -m bin 00FF"}, {lines: "acl a ssl_c_sha1 00FF"},
	{lines: "acl a ssl_fc_sni,lower x"}, {lines: "acl a ssl_fc_sni,nosuch x"},
	{lines: "acl a ssl_fc_sni,field(1,.) x"}, {lines: "acl a ssl_fc_sni,field(1) x"},
	{lines: "acl a ssl_fc_sni,word(-1,'.') x"}, {lines: "acl a ssl_fc_sni,length gt 3"},
	{lines: "acl a src,ipmask(24) 10.0.0.0"}, {lines: "acl a src,ipmask 10.0.0.0"},
	{lines: "acl a nosuch x"}, {lines: "acl a str(a,b) x"},
	{lines: "acl a str x", differs: "HAProxy takes it for an empty text"},
	{lines: "acl a int(5) 5"},
	{lines: "acl a int(x) 5"}, {lines: "acl a bool(1)"}, {lines: "acl a always_true"},
	{lines: "acl a req.ssl_sni x", differs: "nothing looks into bytes yet"},
	{lines: "acl a fc_rcvd_proxy"}, {lines: "acl a so_id 1|acl a fe_id 1|acl a fe_name front"},
	{lines: "acl a src 10.1.1.1|use_backend back if a"}, {lines: "use_backend back if nosuch"},
	{lines: "use_backend back if { ssl_fc_sni a }"}, {lines: "use_backend back if {ssl_fc_sni a}"},
	{lines: "use_backend back if { ssl_fc_sni a"}, {lines: "use_backend back if { }"},
	{lines: "use_backend back if !{ ssl_fc } or { ssl_fc_sni a } TRUE"},
	{lines: "use_backend back if ! TRUE || FALSE"}, {lines: "use_backend back unless LOCALHOST"},
	{lines: "use_backend back if TRUE !!FALSE"},
	{lines: "use_backend back if", differs: "HAProxy takes it for a condition that never holds"},
	{lines: "use_backend back if TRUE or", differs: "HAProxy takes what is missing for granted"},
	{lines: "use_backend back if or TRUE", differs: "HAProxy takes what is missing for granted"},
	{lines: "use_backend nosuch if TRUE"}, {lines: "use_backend back if METH_GET", differs: "HTTP"},
	{lines: "tcp-request connection accept"}, {lines: "tcp-request connection reject if { src ::1 }"},
	{lines: "tcp-request session reject unless { ssl_c_used }"},
	{lines: "tcp-request content accept if TRUE|tcp-request content reject"},
	{lines: "tcp-request content"}, {lines: "tcp-request"}, {lines: "tcp-request nosuch accept"},
	{lines: "tcp-request content nosuch"}, {lines: "tcp-request content accept when TRUE"},
	{lines: "tcp-request content silent-drop", differs: "the action is not there yet"},
	{lines: "tcp-request connection reject if { ssl_fc }"}, {lines: "tcp-request inspect-delay 5s"},
	{lines: "tcp-request inspect-delay"}, {lines: "tcp-request inspect-delay x"},
	{lines: `log-format "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"`},
	{lines: `log-format "%{+Q}o %t %s %{-Q}r"`},
	{lines: `log-format "%{+Q,+X}ci %[ssl_fc_sni] %{+E}[ssl_c_s_dn(CN),lower] %sslv %sslc 100%%"`},
	{lines: `log-format "%nosuch"`}, {lines: `log-format "%"`},
	{lines: `log-format "%[nosuch]"`}, {lines: `log-format "%[src"`},
	{lines: `log-format "%[ src]"`}, {lines: `log-format "%{+Q"`},
	{lines: `log-format "%{+Z}ci"`, differs: "HAProxy takes any letter"}, {lines: "log-format"},
	{lines: "log-format a b"}, {lines: `log-format ""`}, {lines: "log-format %[src,lower]"},
	{lines: `log-format "%[ssl_bc_protocol] %[be_name] %[srv_name]"`},
	{lines: "log-format %ID", differs: "there is no unique id yet"},
}

// serverLines are the options of a server on which both must decide alike.
var serverLines = []struct{ lines, differs string }{
	{lines: "send-proxy"}, {lines: "send-proxy-v2 no-send-proxy-v2"}, {lines: "send-proxy-v2-ssl-cn"},
	{lines: "send-proxy-v2-ssl no-send-proxy"}, {lines: "proxy-v2-options"},
	{lines: "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c"},
	{lines: "send-proxy-v2 proxy-v2-options nosuch"}, {lines: "send-proxy-v2 proxy-v2-options ssl,,crc32c"},
	{lines: "send-proxy-v2 proxy-v2-options cert-sig", differs: "crypto/tls does not say the certificate"},
	{lines: "send-proxy-v2 proxy-v2-options unique-id", differs: "there is no unique id yet"},
	{lines: "ssl verify none sni ssl_fc_sni"}, {lines: "ssl verify none sni ssl_fc_sni,lower"},
	{lines: "ssl verify none sni src"}, {lines: "ssl verify none sni nosuch"},
	{lines: "ssl verify none sni ssl_bc_sni"}, {lines: "ssl verify none sni str(a.example)"},
}

func TestServerLinesAsHAProxy(t *testing.T) {
	for _, test := range serverLines {
		text := strings.Replace(frame, "127.0.0.1:25", "127.0.0.1:25 "+test.lines, 1)
		theirs, output := haproxy(t, text, nil)
		ours, messages := accepted(t, text, nil)
		if (theirs != ours) != (test.differs != "") {
			t.Errorf("%s: accepted by HAProxy: %v, by whyspin: %v; reason to differ: %q\n%s\n%s", test.lines,
				theirs, ours, test.differs, output, messages)
		}
	}
}

// TestRuleLinesAsHAProxy lets HAProxy decide on the same lines.
func TestRuleLinesAsHAProxy(t *testing.T) {
	for _, test := range ruleLines {
		lines := strings.ReplaceAll(" "+test.lines, "|", "\n ")
		text := strings.Replace(frame, " default_backend", lines+"\n default_backend", 1)
		text = strings.Replace(text, "frontend", " mode tcp\n log 127.0.0.1 local0\nfrontend", 1)
		theirs, output := haproxy(t, text, nil)
		ours, messages := accepted(t, text, nil)
		if (theirs != ours) != (test.differs != "") {
			t.Errorf("%s: accepted by HAProxy: %v, by whyspin: %v; reason to differ: %q\n%s\n%s", test.lines,
				theirs, ours, test.differs, output, messages)
		}
	}
}

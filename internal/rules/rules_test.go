package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// sample is a client with a certificate, behind a PROXY protocol header, whose server is reached by TLS.
func sample() *Session {
	return &Session{
		Source:      netip.MustParseAddrPort("192.0.2.7:40000"),
		Destination: netip.MustParseAddrPort("[2001:db8::1]:443"),
		Proxied:     true, Authority: "inner.example",
		Frontend: Named{"front", 2}, Listener: Named{"", 1}, Backend: Named{"back", 3},
		Client: &TLS{
			Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", KeyBits: 128, SNI: "Mail.Example.com",
			ALPN: "smtp", Peer: &Certificate{
				Subject: Name{{"C", "CH"}, {"OU", "one"}, {"OU", "two, three"}, {"CN", "client"}},
				Issuer:  Name{{"CN", "authority"}}, Serial: []byte{1, 0xab}, SHA1: []byte{0xde, 0xad},
				NotBefore: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Version: 3, Key: "rsaEncryption",
			},
		},
	}
}

func TestExpressions(t *testing.T) {
	tests := []struct{ expression, want string }{
		{"src", "192.0.2.7"}, {"src_port", "40000"}, {"dst", "2001:db8::1"}, {"dst_port", "443"},
		{"fe_name", "front"}, {"fe_id", "2"}, {"so_id", "1"}, {"so_name", "none"}, {"be_name", "back"},
		{"srv_name", "none"}, {"bc_src", "none"}, {"fc_rcvd_proxy", "1"},
		{"fc_pp_authority", "inner.example"},
		{"always_true", "1"}, {"always_false", "0"}, {"str(a b)", "a b"}, {`str("a,b")`, "a,b"},
		{`str('a\')`, `a\`}, {`str(a\,b)`, "a,b"}, {"int(-5)", "-5"}, {"int(0x10)", "16"}, {"bool(7)", "1"},
		{"ipv4(127.0.0.1)", "127.0.0.1"},
		{"ssl_fc", "1"}, {"ssl_fc_sni", "Mail.Example.com"}, {"ssl_fc_has_sni", "1"},
		{"ssl_fc_protocol", "TLSv1.3"}, {"ssl_fc_cipher", "TLS_AES_128_GCM_SHA256"}, {"ssl_fc_alpn", "smtp"},
		{"ssl_fc_use_keysize", "128"}, {"ssl_fc_is_resumed", "0"}, {"ssl_fc_has_crt", "1"},
		{"ssl_c_used", "1"}, {"ssl_c_verify", "0"}, {"ssl_c_s_dn", "/C=CH/OU=one/OU=two, three/CN=client"},
		{"ssl_c_s_dn(CN)", "client"}, {"ssl_c_s_dn(OU)", "one"}, {"ssl_c_s_dn(OU,2)", "two, three"},
		{"ssl_c_s_dn(OU,-1)", "two, three"}, {"ssl_c_s_dn(OU,3)", "none"}, {"ssl_c_s_dn(O)", "none"},
		{"ssl_c_s_dn(,0,rfc2253)", `CN=client,OU=two\, three,OU=one,C=CH`}, {"ssl_c_i_dn(CN)", "authority"},
		{"ssl_c_serial,hex", "01AB"}, {"ssl_c_sha1,hex,lower", "dead"},
		{"ssl_c_notbefore", "260102030405Z"},
		{"ssl_c_version", "3"}, {"ssl_c_key_alg", "rsaEncryption"}, {"ssl_c_sig_alg", "none"},
		{"ssl_bc", "0"}, {"ssl_bc_protocol", "none"}, {"ssl_s_s_dn", "none"},
		{"ssl_fc_sni,lower", "mail.example.com"}, {"ssl_fc_sni,upper,length", "16"},
		{"ssl_fc_sni,field(2,.)", "Example"}, {"ssl_fc_sni,field(-1,.)", "com"},
		{"ssl_fc_sni,field(4,.)", "none"}, {"str(a..b),field(2,.)", ""}, {"str(a..b),word(2,.)", "b"},
		{"str(a..b),word(-2,.)", "a"}, {"src,ipmask(24)", "192.0.2.0"}, {"dst,ipmask(24)", "none"},
		{"dst,ipmask(24,16)", "2001::"}, {"src_port,not", "0"}, {"str(abc),base64", "YWJj"},
		{"str(abcd),bytes(1,2)", "bc"}, {"str(abcd),bytes(2)", "cd"}, {"str(x),bool", "none"},
		{"src,length", "9"},
	}
	s := sample()
	for _, test := range tests {
		e, err := ParseExpression(test.expression)
		if err != nil {
			t.Errorf("%s: %v", test.expression, err)
			continue
		}
		got := "none"
		if v, ok := e.Evaluate(s); ok {
			got = v.String()
		}
		if got != test.want || e.String() != test.expression {
			t.Errorf("%s is %q, want %q", e, got, test.want)
		}
	}
}

// TestWithoutTLS: every fetch can be asked of a session of which nothing is known.
func TestWithoutTLS(t *testing.T) {
	for name, f := range fetches {
		arguments := []argument{{text: "1"}}[:f.arguments.least]
		v, ok := f.get(&Session{}, arguments)
		known := map[bool]string{true: "a value", false: "no value"}[ok]
		want := "no value"
		switch {
		case f.kind == Boolean, name == "fe_name", name == "fe_id", name == "so_id", name == "int",
			name == "str":
			want = "a value"
		}
		if known != want || ok && v.Kind != f.kind {
			t.Errorf("%s has %s (%v), want %s", name, known, v.Kind, want)
		}
	}
}

func TestConditions(t *testing.T) {
	tests := []struct {
		condition string
		want      bool
	}{
		{"if { src 192.0.2.0/24 }", true}, {"if { src 192.0.2.7 }", true}, {"if { src 192.0.2.8 }", false},
		{"unless { src 192.0.2.0/24 }", false}, {"if { src 2001:db8::/32 }", false},
		{"if { dst 10.0.0.0/8 2001:db8::/32 }", true}, {"if { src 192.0.3.0/255.255.0.0 }", true},
		{"if { dst_port 443 }", true}, {"if { dst_port 1:442 444: }", false}, {"if { dst_port :443 }", true},
		{"if { dst_port gt 442 }", true}, {"if { dst_port gt 443 }", false}, {"if { dst_port le 443 }", true},
		{"if { dst_port lt 443 }", false}, {"if { dst_port ge 443 }", true},
		{"if { dst_port lt 5 eq 443 }", true},
		{"if { ssl_fc }", true}, {"if !{ ssl_fc }", false}, {"if ! { ssl_fc }", false},
		{"if !!{ ssl_fc }", true},
		{"if { ssl_bc }", false}, {"if { ssl_c_verify 0 }", true}, {"if { ssl_c_verify -m bool }", false},
		{"if { ssl_fc_sni mail.example.com }", false}, {"if { ssl_fc_sni -i mail.example.COM }", true},
		{"if { ssl_fc_sni -m beg Mail }", true}, {"if { ssl_fc_sni -m end -i .Example.Com }", true},
		{"if { ssl_fc_sni_end .com }", true}, {"if { ssl_fc_sni -m sub xam }", true},
		{"if { ssl_fc_sni -m dom com }", true}, {"if { ssl_fc_sni -m dom xample }", false},
		{"if { ssl_fc_sni -m dir com }", false}, {"if { str(/a/b/c) -m dir b }", true},
		{"if { str(/a/b/c) -m dir a/b }", true}, {"if { str(/a/b/c) -m dir /b/ }", true},
		{"if { ssl_fc_sni -m len 10:20 }", true}, {"if { ssl_fc_sni -m len 3 }", false},
		{"if { ssl_fc_sni_reg ^M.*m$ }", true}, {"if { ssl_fc_sni_reg ^m.*m$ }", false},
		{"if { ssl_fc_sni_reg -i ^m.*m$ }", true}, {"if { ssl_fc_sni -m found }", true},
		{"if { ssl_bc_alpn -m found }", false}, {"if { ssl_c_sha1 -m bin dead }", true},
		{"if { ssl_c_sha1,hex DEAD }", true}, {"if { str(--) -- -- }", true}, {"if { src_port,bool }", true},
		{"if TRUE", true}, {"if FALSE", false}, {"if LOCALHOST", false}, {"if TRUE FALSE", false},
		{"if TRUE or FALSE", true}, {"if FALSE || TRUE TRUE", true}, {"if FALSE or TRUE FALSE", false},
		{"if local", false}, {"if named", true}, {"if !local named", true}, {"unless local", true},
	}
	var acls ACLs
	for _, line := range []string{"local src 127.0.0.0/8", "named ssl_fc_sni nobody",
		"named ssl_fc_sni -i mail.example.com"} {
		if _, err := acls.Add(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range tests {
		c, warnings, err := acls.Condition(strings.Fields(test.condition))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v %v", test.condition, err, warnings)
			continue
		}
		if got := c.Holds(sample()); got != test.want {
			t.Errorf("%s: %v", test.condition, got)
		}
	}
}

// TestAnACLGrows: lines of the same name add to each other, also to what was used before.
func TestAnACLGrows(t *testing.T) {
	var acls ACLs
	must := func(_ string, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(acls.Add([]string{"a", "src", "10.0.0.1"}))
	c, _, err := acls.Condition([]string{"if", "a"})
	if err != nil || c.Holds(sample()) || c.Needs() != NeedsSession {
		t.Fatalf("%v, holds %v, needs %b", err, c.Holds(sample()), c.Needs())
	}
	must(acls.Add([]string{"a", "ssl_fc_sni", "-m", "found"}))
	if !c.Holds(sample()) || !c.Needs().Has(NeedsClientTLS) {
		t.Errorf("holds %v, needs %b", c.Holds(sample()), c.Needs())
	}
	if e, from := c.TooEarly(StageConnection); e != "ssl_fc_sni" || from != StageSession {
		t.Errorf("too early: %q, from %v", e, from)
	}
	if e, _ := c.TooEarly(StageSession); e != "" {
		t.Errorf("too early: %q", e)
	}
}

func TestTheFirstRuleDecides(t *testing.T) {
	var acls ACLs
	when := func(text string) *Condition {
		c, _, err := acls.Condition(strings.Fields(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	tests := []struct {
		name  string
		rules []Rule
		want  bool
	}{
		{"without a rule", nil, true},
		{"rejected", []Rule{{false, nil}}, false},
		{"accepted before", []Rule{{true, when("if TRUE")}, {false, nil}}, true},
		{"passed over", []Rule{{true, when("if FALSE")}, {false, when("unless FALSE")}}, false},
		{"none holds", []Rule{{false, when("if FALSE")}}, true},
	}
	for _, test := range tests {
		if got := Decide(test.rules, sample()); got != test.want {
			t.Errorf("%s: accepted %v", test.name, got)
		}
	}
}

func TestFormats(t *testing.T) {
	f, err := ParseFormat(`a  %ci %{+Q}b%%%{+Q,+X}[ssl_fc_sni,lower] %{+E}o%s`)
	if err != nil {
		t.Fatal(err)
	}
	want := `a| |<ci 0>| |<b 1>|%|[ssl_fc_sni,lower 3]| |<s 4>`
	var got []string
	for _, p := range f.Parts {
		switch p.Kind {
		case PartText:
			got = append(got, p.Text)
		case PartBlank:
			got = append(got, " ")
		case PartVariable:
			got = append(got, fmt.Sprintf("<%s %d>", p.Text, p.Flags))
		case PartSample:
			got = append(got, fmt.Sprintf("[%v %d]", p.Sample, p.Flags))
		}
	}
	if text := strings.Join(got, "|"); text != want {
		t.Errorf("parts %s, want %s", text, want)
	}
	if n := f.Needs(); n != NeedsClientTLS|NeedsSession {
		t.Errorf("needs %b", n)
	}
}

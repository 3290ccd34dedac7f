package config

import (
	"fmt"
	"reflect"
	"strings"
)

// describe prints a configuration for the goldens: one line per section, listener, server and log target,
// with the fields that are not what an empty configuration has.
func describe(c *Config) string {
	var b strings.Builder
	empty := newParser(Options{}).config.Global
	if fields := differing(reflect.ValueOf(c.Global), reflect.ValueOf(empty)); fields != "" {
		fmt.Fprintf(&b, "global%s\n", fields)
	}
	for _, l := range c.Global.Logs {
		fmt.Fprintf(&b, "  log%s\n", differing(reflect.ValueOf(l), reflect.ValueOf(LogTarget{})))
	}
	for _, s := range c.Global.StatsSockets {
		fmt.Fprintf(&b, "  stats socket%s\n", differing(reflect.ValueOf(s), reflect.ValueOf(StatsSocket{})))
	}
	for _, f := range c.Global.Whyspin.Faults {
		fmt.Fprintf(&b, "  fault%s\n", differing(reflect.ValueOf(f), reflect.ValueOf(Fault{})))
	}
	for _, p := range c.Proxies {
		fmt.Fprintf(&b, "proxy%s", differing(reflect.ValueOf(*p), reflect.ValueOf(Proxy{})))
		if p.DefaultBackend != nil {
			fmt.Fprintf(&b, " DefaultBackend=%s", p.DefaultBackend.Name)
		}
		b.WriteByte('\n')
		for _, s := range p.Switches {
			fmt.Fprintf(&b, "  use_backend at=%d %s\n", s.Line, s.Backend.Name)
		}
		for _, l := range p.Logs {
			fmt.Fprintf(&b, "  log%s\n", differing(reflect.ValueOf(l), reflect.ValueOf(LogTarget{})))
		}
		for _, l := range p.Binds {
			fmt.Fprintf(&b, "  bind%s\n", differing(reflect.ValueOf(*l), reflect.ValueOf(Bind{})))
			if l.TLS != nil {
				fmt.Fprintf(&b, "    tls%s%s\n", describeTLS(&l.TLS.TLS),
					differing(reflect.ValueOf(*l.TLS), reflect.ValueOf(BindTLS{})))
				fmt.Fprintf(&b, "    crt %q crt-list %q\n", l.TLS.Certificates, l.TLS.Lists)
			}
		}
		for _, s := range p.Servers {
			fmt.Fprintf(&b, "  server%s\n", differing(reflect.ValueOf(*s), reflect.ValueOf(Server{})))
			if s.TLS != nil {
				fmt.Fprintf(&b, "    tls%s%s\n", describeTLS(&s.TLS.TLS),
					differing(reflect.ValueOf(*s.TLS), reflect.ValueOf(ServerTLS{})))
			}
		}
	}
	return b.String()
}

// describeTLS prints the lists among the settings, which differing leaves out.
func describeTLS(t *TLS) string {
	var b strings.Builder
	if t.CipherSuites != nil {
		fmt.Fprintf(&b, " CipherSuites=%04x", t.CipherSuites)
	}
	if t.Curves != nil {
		fmt.Fprintf(&b, " Curves=%d", t.Curves)
	}
	if t.ALPN != nil {
		fmt.Fprintf(&b, " ALPN=%q", t.ALPN)
	}
	return b.String()
}

// differing prints the fields of a struct that are not those of plain as " Name=value". Slices and pointers
// are left out: describe gives them lines of their own.
func differing(v, plain reflect.Value) string {
	var b strings.Builder
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i).Name
		listed := field.Kind() == reflect.Slice || field.Kind() == reflect.Pointer
		if listed || reflect.DeepEqual(field.Interface(), plain.Field(i).Interface()) {
			continue
		}
		switch value := field.Interface().(type) {
		case Position:
			if name == "Position" {
				name = "at"
			}
			fmt.Fprintf(&b, " %s=%d", name, value.Line)
		case fmt.Stringer, bool:
			fmt.Fprintf(&b, " %s=%v", name, value)
		case UnixAttributes:
			if value.Mode != 0 {
				fmt.Fprintf(&b, " Mode=%o", value.Mode)
			}
			value.Mode = 0
			unset := UnixAttributes{UID: -1, GID: -1}
			b.WriteString(differing(reflect.ValueOf(value), reflect.ValueOf(unset)))
		case string:
			fmt.Fprintf(&b, " %s=%q", name, value)
		case Whyspin, Timeouts, TLS, GlobalTLS, ExtraFiles, SNI:
			b.WriteString(differing(field, plain.Field(i)))
		default:
			fmt.Fprintf(&b, " %s=%v", name, value)
		}
	}
	return b.String()
}

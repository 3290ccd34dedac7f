package accesslog

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// defaultMaxLen is the length at which lines are cut when the configuration says nothing: RFC 3164's.
const defaultMaxLen = 1024

// target is one "log" line.
type target struct {
	format             config.LogFormat
	facility, maxLen   int
	maxLevel, minLevel Level
	hostname           string
	descriptor         bool // the outlet is one
	outlet             outlet
}

// outletKey tells outlets apart: "log" lines with the same address share one.
type outletKey struct {
	kind    config.LogTargetKind
	address sys.Address
	fd      int
}

// open opens the targets of the configuration, reporting everything that is wrong at once.
func (l *Logger) open(o Options) error {
	c := o.Config
	hostname := c.Global.LogSendHostname
	if c.Global.LogHostnameSet && hostname == "" {
		hostname = o.Hostname
		if hostname == "" {
			// The header then has what it has without "log-send-hostname".
			hostname, _ = os.Hostname()
		}
	}
	var wrong []error
	group := func(logs []config.LogTarget, tag string) (g group) {
		g.tag = tag
		for i := range logs {
			t, err := l.openTarget(&logs[i], hostname, o.Resolve)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: log: %w", logs[i].Position, err))
				continue
			}
			g.targets = append(g.targets, t)
		}
		return g
	}
	l.global = group(c.Global.Logs, c.Global.LogTag)
	for _, p := range c.Proxies {
		l.proxies[p] = group(p.Logs, orElse(p.LogTag, c.Global.LogTag))
	}
	return unique(wrong)
}

// unique joins errors without repeating one: a line of the global section belongs to many proxies.
func unique(all []error) error {
	seen := map[string]bool{}
	var once []error
	for _, err := range all {
		if text := err.Error(); !seen[text] {
			seen[text] = true
			once = append(once, err)
		}
	}
	return errors.Join(once...)
}

func (l *Logger) openTarget(c *config.LogTarget, hostname string,
	resolve func(config.Address) (sys.Address, error)) (target, error) {
	t := target{
		format: c.Format, facility: c.Facility, maxLen: c.MaxLen,
		maxLevel: Level(c.MaxLevel), minLevel: Level(c.MinLevel), hostname: hostname,
		descriptor: c.Kind == config.LogFD,
	}
	if t.maxLen <= 0 {
		t.maxLen = defaultMaxLen
	}
	key, err := outletOf(c, resolve)
	if err != nil {
		return t, err
	}
	if t.outlet = l.outlets[key]; t.outlet != nil {
		return t, nil
	}
	switch key.kind {
	case config.LogFD:
		t.outlet = newDescriptorOutlet(key.fd, &l.dropped)
	default:
		d := &datagramOutlet{to: key.address}
		if err := d.open(); err != nil {
			if key.kind != config.LogUnix {
				return t, err
			}
			l.warnings = append(l.warnings,
				fmt.Sprintf("%s: log: %v; its lines are dropped until it can be reached", c.Position, err))
		}
		t.outlet = d
	}
	l.outlets[key] = t.outlet
	return t, nil
}

// outletOf returns where a target sends to.
func outletOf(c *config.LogTarget, resolve func(config.Address) (sys.Address, error)) (outletKey, error) {
	key := outletKey{kind: c.Kind}
	a := &c.Address
	switch {
	case c.Kind == config.LogFD:
		key.fd = a.FD
	case c.Kind == config.LogUnix && a.Abstract:
		key.address.Path = "@" + a.Path
	case c.Kind == config.LogUnix:
		key.address.Path = a.Path
	case c.Kind == config.LogUDP && resolve != nil:
		address, err := resolve(*a)
		if err != nil {
			return key, err
		}
		key.address = address
	case c.Kind == config.LogUDP && a.Kind == config.AddressIP && a.IP.IsValid():
		key.address.IP = netip.AddrPortFrom(a.IP, uint16(a.Port))
	default:
		return key, fmt.Errorf("the address %q cannot be used", a.Name)
	}
	return key, nil
}

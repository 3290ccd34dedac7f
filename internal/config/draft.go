package config

import (
	"slices"

	"github.com/whyspin/whyspin/internal/rules"
)

// side is a set of the two sides a section can have.
type side uint8

const (
	clientSide side = 1 << iota
	serverSide
	bothSides = clientSide | serverSide
)

// sectionKind is the kind of the section that is being read.
type sectionKind uint8

const (
	// sectionNone is the part of a file before its first section.
	sectionNone sectionKind = iota
	// sectionUnknown is a section that was refused; its lines are passed over.
	sectionUnknown
	sectionGlobal
	sectionDefaults
	sectionFrontend
	sectionBackend
	sectionListen
)

// String returns the word that begins such a section.
func (k sectionKind) String() string {
	return [...]string{"none", "unknown", "global", "defaults", "frontend", "backend", "listen"}[k]
}

// sides returns the sides that the settings of such a section are for.
func (k sectionKind) sides() side {
	switch k {
	case sectionFrontend:
		return clientSide
	case sectionBackend:
		return serverSide
	case sectionDefaults, sectionListen:
		return bothSides
	case sectionNone, sectionUnknown, sectionGlobal:
	}
	return 0
}

// reference is the name of a backend and the line it stands on.
type reference struct {
	Position
	name string
}

// draft is a section of proxies, or defaults, while it is read. The Proxy in it holds the settings for both
// sides until finish takes those away that the section does not have.
type draft struct {
	Proxy
	kind sectionKind
	// defaultBackend is what default_backend names. switched is the first unconditional use_backend, which
	// comes before it.
	defaultBackend, switched reference
	// switches are the conditional ones before it, acls the named conditions.
	switches []pendingSwitch
	acls     *rules.ACLs
	// conditions are those of the section's rules, to be looked at when all its lines are read.
	conditions []pendingCondition
	// template is what default-server lines have set.
	template serverTemplate
	// set holds the settings that this section has made, by keyword, for messages about those made twice.
	set                map[string]Position
	serverNames        map[string]Position
	serverIDs, bindIDs map[int]Position

	// doubtful is true exactly when a line of this section or of its defaults had a mistake: what seems to
	// be missing may be missing because of it, and is not reported.
	doubtful bool

	// explicit and implicit are true exactly when a section has named these defaults after "from", or has
	// taken them because they were the last ones. warned is true once a message said that both happen.
	explicit, implicit, warned bool
}

// newDefaults returns the settings in force before any section defaults.
func newDefaults() *draft {
	return &draft{
		Proxy:    Proxy{Retries: defaultRetries},
		kind:     sectionDefaults,
		template: serverTemplate{Server: Server{Weight: defaultWeight}},
	}
}

// derive returns the draft of a new section with the settings of the section defaults d.
func (d *draft) derive(kind sectionKind, name string, at Position) *draft {
	n := *d
	n.kind, n.Name, n.Position = kind, name, at
	n.Logs = slices.Clone(d.Logs)
	n.set = map[string]Position{}
	n.serverNames = map[string]Position{}
	n.serverIDs, n.bindIDs = map[int]Position{}, map[int]Position{}
	n.acls, n.switches, n.conditions = &rules.ACLs{}, nil, nil
	n.explicit, n.implicit, n.warned = false, false, false
	n.IsFrontend = kind == sectionFrontend || kind == sectionListen
	n.IsBackend = kind == sectionBackend || kind == sectionListen
	return &n
}

// finish takes the settings away that belong to a side the section does not have.
func (d *draft) finish() {
	if !d.IsFrontend {
		d.MaxConn, d.Backlog, d.Binds = 0, 0, nil
		d.DontLogNull, d.DontLogNormal, d.LogAsap, d.TCPLog = false, false, false, false
		d.ClientKeepAlive, d.LogFormat = false, nil
		d.Timeouts.Client, d.Timeouts.ClientFin, d.Timeouts.ClientHS = 0, 0, 0
	}
	if !d.IsBackend {
		d.Retries, d.Redispatch, d.FullConn, d.Servers = 0, 0, 0, nil
		d.AbortOnClose, d.ServerKeepAlive = false, false
		t := &d.Timeouts
		t.Connect, t.Server, t.Tunnel, t.ServerFin, t.Queue = 0, 0, 0, 0, 0
	}
}

// title names the section in messages: frontend "web".
func (d *draft) title() string {
	if d.Name == "" {
		return "section " + d.kind.String()
	}
	return d.kind.String() + " " + quote(d.Name)
}

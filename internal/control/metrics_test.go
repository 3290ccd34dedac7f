package control

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/whyspin/whyspin/internal/config"
)

// TestMetricsFollowTheConventions has Prometheus's own checks of names, units, types and help.
func TestMetricsFollowTheConventions(t *testing.T) {
	p := start(t, setup{workers: 2}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	p.established("smtp")
	registry := prometheus.NewPedanticRegistry()
	must(t, registry.Register(&collector{
		engine: p.engine, findings: func() map[string]uint64 { return map[string]uint64{"T3": 1} },
	}))
	problems, err := testutil.GatherAndLint(registry)
	must(t, err)
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	families, err := registry.Gather()
	must(t, err)
	if len(families) < 15 {
		t.Errorf("only %d metrics were checked", len(families))
	}
}

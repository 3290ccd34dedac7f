package control

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/evidence"
)

// collector reads the engine's counters when Prometheus asks for them.
type collector struct {
	engine   *engine.Engine
	findings func() map[string]uint64
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("whyspin_"+name, help, labels, nil)
}

var (
	metricStreams     = describe("streams", "Streams that exist.")
	metricMaxConn     = describe("max_streams", "Limit of streams (maxconn).")
	metricConnections = describe("connections_total", "Client connections accepted since the start.")
	metricBytes       = describe("bytes_total", "Bytes of ended streams, as seen from the client.",
		"direction")
	metricIdle = describe("worker_idle_ratio", "Share of the last second that the worker waited.",
		"worker")
	metricStuck = describe("worker_stuck_seconds",
		"How long the worker has not come back to its loop.", "worker")
	metricWaits = describe("worker_waits_total", "Returns of epoll_wait.", "worker", "timeout",
		"result")
	metricEvents     = describe("worker_events_total", "Events delivered.", "worker")
	metricWakeups    = describe("worker_wakeups_total", "Wakeups of streams.", "worker")
	metricNoProgress = describe("worker_no_progress_total",
		"Wakeups of streams that neither consumed their cause nor brought progress.", "worker")
	metricLate = describe("worker_late_total",
		"Wakeups of streams that left a deadline in the past.", "worker")
	metricCalls = describe("worker_io_calls_total", "Reads and writes on proxied descriptors.", "worker",
		"direction")
	metricTiny = describe("worker_tiny_io_total",
		"Reads and writes on proxied descriptors of 1 to 16 bytes.", "worker", "direction")
	metricAgain = describe("worker_eagain_total",
		"Reads and writes on proxied descriptors that found nothing to do.", "worker", "direction")
	metricReset = describe("worker_econnreset_total",
		"Reads and writes on proxied descriptors whose connection was reset.", "worker", "direction")
	metricBuffers  = describe("buffer_bytes", "Bytes in buffers that are in use.", "worker")
	metricFindings = describe("findings_total", "Findings by class of the spin catalogue.", "class")
)

// Describe lists no metrics: which workers and classes there are shows at collection.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the counters.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	t := c.engine.Totals()
	gauge(metricStreams, float64(t.Streams))
	gauge(metricMaxConn, float64(t.MaxConn))
	count(metricConnections, t.CumulatedConns)
	count(metricBytes, t.BytesIn, "in")
	count(metricBytes, t.BytesOut, "out")
	for _, w := range c.engine.Workers() {
		worker := strconv.Itoa(w.Index)
		gauge(metricIdle, w.Idle, worker)
		gauge(metricStuck, w.Stuck.Seconds(), worker)
		gauge(metricBuffers, float64(w.BufferBytes), worker)
		count(metricEvents, w.Events, worker)
		count(metricWakeups, w.Wakeups, worker)
		count(metricNoProgress, w.Charged, worker)
		count(metricLate, w.Late, worker)
		for timeout := range evidence.TimeoutUnknown {
			for result := range evidence.ResultClasses {
				count(metricWaits, w.Waits[timeout][result], worker, timeout.String(), result.String())
			}
		}
		for direction, io := range map[string]evidence.IO{"read": w.Read, "write": w.Write} {
			count(metricCalls, io.Calls, worker, direction)
			count(metricTiny, io.Tiny, worker, direction)
			count(metricAgain, io.Again, worker, direction)
			count(metricReset, io.Reset, worker, direction)
		}
	}
	if c.findings == nil {
		return
	}
	for class, n := range c.findings() {
		count(metricFindings, n, class)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// document is bin/bench.json.
type document struct {
	Cases []*result `json:"cases"`
}

// result is what came of one row.
type result struct {
	Case   string `json:"case"`
	Unit   string `json:"unit"`
	Rounds int    `json:"rounds"`
	// Whyspin is the median over the rounds, nil when the row was not measured.
	Whyspin *float64         `json:"whyspin"`
	Peers   map[string]*peer `json:"peers"`
	// NotMeasured is why there are no figures, empty when there are.
	NotMeasured string `json:"not_measured,omitempty"`

	notes []string // for people
}

// peer is what whyspin was compared with: another proxy, itself without something, or a limit.
type peer struct {
	Value float64 `json:"value"`
	// The ratios are whyspin's value divided by the peer's, round by round: the median, the least, the
	// greatest.
	Ratio    float64 `json:"ratio"`
	RatioMin float64 `json:"ratio_min"`
	RatioMax float64 `json:"ratio_max"`
	// Target is the highest ratio that is good enough, nil when nothing is asked.
	Target *float64 `json:"target"`
	// ThroughputRatio is whyspin's units of work per second divided by the peer's, nil when it has no
	// meaning.
	ThroughputRatio *float64 `json:"throughput_ratio"`
	Met             bool     `json:"met"`

	targetThroughput float64
}

func newResult(unit string, values []float64) *result {
	own := median(values)
	return &result{Unit: unit, Rounds: len(values), Whyspin: &own, Peers: map[string]*peer{}}
}

// notMeasured is the result of a row for which something is missing on this machine.
func notMeasured(unit, format string, args ...any) *result {
	return &result{Unit: unit, Peers: map[string]*peer{}, NotMeasured: fmt.Sprintf(format, args...)}
}

// note adds a line that is printed with the row.
func (r *result) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// compare adds a peer with the ratios of all rounds. throughput may be nil.
func (r *result) compare(name string, value float64, ratios []float64, t goal, throughput *float64) *peer {
	p := &peer{
		Value: value, Ratio: median(ratios), RatioMin: slices.Min(ratios), RatioMax: slices.Max(ratios),
		ThroughputRatio: throughput, targetThroughput: t.throughput,
	}
	if t.ratio > 0 {
		p.Target = &t.ratio
	}
	p.Met = (t.ratio == 0 || p.Ratio <= t.ratio) &&
		(t.throughput == 0 || throughput != nil && *throughput >= t.throughput)
	r.Peers[name] = p
	return p
}

// limit adds a limit as a peer: values are whyspin's, round by round.
func (r *result) limit(name string, limit float64, values []float64) *peer {
	ratios := make([]float64, len(values))
	for i, v := range values {
		ratios[i] = v / limit
	}
	return r.compare(name, limit, ratios, goal{ratio: 1}, nil)
}

// writeJSON writes the results in the form that is documented for bin/bench.json.
func writeJSON(file string, results []*result) error {
	for _, r := range results {
		if r.Whyspin != nil {
			*r.Whyspin = rounded(*r.Whyspin)
		}
		for _, p := range r.Peers {
			p.Value, p.Ratio = rounded(p.Value), rounded(p.Ratio)
			p.RatioMin, p.RatioMax = rounded(p.RatioMin), rounded(p.RatioMax)
			if p.ThroughputRatio != nil {
				*p.ThroughputRatio = rounded(*p.ThroughputRatio)
			}
		}
	}
	text, err := json.MarshalIndent(document{results}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

// rounded keeps four significant digits: nothing here is known better.
func rounded(x float64) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}

// printTable writes the table for people.
func printTable(w io.Writer, results []*result) {
	const format = "%-19s %-17s %9s  %-19s %9s %7s %7s %7s %7s %6s  %s\n"
	fmt.Fprintf(w, "\n"+format, "case", "unit", "whyspin", "peer", "value", "ratio", "min", "max", "target",
		"thrput", "met")
	for _, r := range results {
		if r.NotMeasured != "" {
			fmt.Fprintf(w, "%-19s not measured: %s\n", r.Case, r.NotMeasured)
			continue
		}
		name, unit, value := r.Case, r.Unit, fmt.Sprintf("%.4g", *r.Whyspin)
		for _, peer := range slices.Sorted(mapsKeys(r.Peers)) {
			p := r.Peers[peer]
			fmt.Fprintf(w, format, name, unit, value, peer, fmt.Sprintf("%.4g", p.Value), ratio(&p.Ratio),
				ratio(&p.RatioMin), ratio(&p.RatioMax), ratio(p.Target), ratio(p.ThroughputRatio),
				p.verdict())
			name, unit, value = "", "", ""
		}
		if r.Rounds < leastRounds {
			fmt.Fprintf(w, "%-19s only %d rounds: nothing can be concluded from them\n", "", r.Rounds)
		}
	}
}

// verdict says in words whether the target was met.
func (p *peer) verdict() string {
	switch {
	case !p.Met && p.targetThroughput > 0:
		return fmt.Sprintf("NO (throughput must be %.2f)", p.targetThroughput)
	case !p.Met:
		return "NO"
	case p.Target == nil && p.targetThroughput == 0:
		return "-"
	}
	return "yes"
}

func ratio(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f", *x)
}

func mapsKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

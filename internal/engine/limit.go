package engine

// DescriptorLimit returns the highest number that a registered descriptor may have. A worker that does not
// give its lock is left out.
func (e *Engine) DescriptorLimit() int {
	highest := 0
	for _, w := range e.workers {
		w.locked(func() { highest = max(highest, len(w.descriptors)-1) })
	}
	return highest
}

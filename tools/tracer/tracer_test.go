package tracer

import "testing"

// TestReportsAreRead reads lines as the tools print them.
func TestReportsAreRead(t *testing.T) {
	reports := map[string]string{
		"strace": ` % time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 50.00    0.000200           2       100         3 recvfrom
 50.00    0.000200           2        90           sendto
100.00    0.000400           2       190         3 total
`,
		"perf trace": ` echo (1), 380 events, 99.9%

   syscall            calls  errors  total       min       avg       max       stddev
   recvfrom              60      3     0.100     0.001     0.002     0.003      0.00%
   sendto                90      0     0.100     0.001     0.002     0.003      0.00%

 echo (2), 80 events, 1.0%

   recvfrom              40      0     0.100     0.001     0.002     0.003      0.00%
`,
		"bpftrace": `Attaching 4 probes...
ready
@calls[tracepoint:syscalls:sys_enter_recvfrom, 7]: 60
@calls[tracepoint:syscalls:sys_enter_recvfrom, 8]: 40
@calls[tracepoint:syscalls:sys_enter_sendto, 7]: 90
@waits[1]: 20
`,
	}
	for _, tool := range All() {
		report := reports[tool.Name]
		for call, want := range map[string]uint64{"recvfrom": 100, "sendto": 90, "read": 0} {
			if n := tool.Calls(report, call); n != want {
				t.Errorf("%s: %d calls of %s, want %d", tool.Name, n, call, want)
			}
		}
	}
}

# whyspin: everything that developers and CI run. "make" alone prints this list.

GO       ?= go
SEEDS    ?= 2000
FUZZTIME ?= 1m
LEAKS    ?= 1000
FOR      ?= 10m
COUNT    ?= 100000
# Most tests watch live programs on whatever machine this is. What fails there is run once more, alone, and both runs
# are printed; what fails twice, or in several places at once, has failed.
TESTS     = $(GO) tool gotestsum --format standard-quiet --rerun-fails=1 --rerun-fails-max-failures=4 \
            --rerun-fails-abort-on-data-race
# Tests run real peers; generating needs a compiler. Nothing else is needed beside Go.
TEST_PACKAGES     = binutils curl gcc haproxy hatop iperf3 libc6-dev libio-socket-inet6-perl libnet-ssleay-perl \
                    libnginx-mod-stream nghttp2-client nginx-light nodejs openssl postgresql python3 python3-aiosmtpd \
                    redis-server redis-tools socat sslscan strace swaks testssl.sh wrk
BENCH_PACKAGES    = bpftrace haproxy libnginx-mod-stream linux-perf nginx-light openssl strace wrk
COST_PACKAGES     = bpftrace linux-perf strace
KERNEL_PACKAGES   = busybox-static qemu-system-x86
GENERATE_PACKAGES = clang-19 llvm-19 clang-format-19

.DEFAULT_GOAL := help
.PHONY: help build deps test race sim test-kernels leakcheck calls chaos soak handshakes probecost demo catalogue recordings differential bench generate check-generate lint fuzz clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

build: ## build bin/whyspin, one static binary; needs Go alone
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/whyspin ./cmd/whyspin

deps: ## install what the tests need (Debian packages, Go modules)
	@tools/packages $(TEST_PACKAGES)
	$(GO) mod download

test: deps build ## the one test command: unit, scenario, simulation, race, real sockets, golden reports
	$(GO) vet ./...
	$(TESTS) --packages ./... -- -count=1 -p 1 # -count=1: some run what they build; -p 1: they watch real programs
	@$(GO) test -count=1 -v -run TestMutants ./internal/recording | grep 'mutants of' # the count, which "ok" hides
	$(MAKE) --no-print-directory race
	$(MAKE) --no-print-directory sim
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...

race: ## the race detector on engine, control and everything else with goroutines
	$(TESTS) --packages "./internal/engine ./internal/control ./internal/accesslog ./internal/diagnose \
		./internal/certificate ./internal/process ./internal/sim" -- -race -short

sim: ## make sim SEEDS=n [FAULT=name] [SEED=s] [SCENARIO=file]: the engine in seeded worlds; exit 1 when a rule is broken
	@mkdir -p bin
	@$(GO) build -o bin/sim ./tools/sim
	@bin/sim -seeds $(SEEDS) $(if $(SCENARIO),-scenario $(SCENARIO)) $(if $(FAULT),-fault $(FAULT)) $(if $(SEED),-seed $(SEED))

test-kernels: ## make test-kernels [UPDATE=1]: the kernel tests under Debian's 6.1 and 6.12 in QEMU, and here
	@tools/packages $(KERNEL_PACKAGES)
	@mkdir -p bin
	@$(GO) build -o bin/kernelvm ./tools/kernelvm
	@bin/kernelvm $(if $(UPDATE),-update)

leakcheck: build ## make leakcheck [LEAKS=n]: n diagnoses, some of them killed; fails with a list of what stayed
	@$(GO) build -o bin/leakcheck ./tools/leakcheck
	@bin/leakcheck -runs $(LEAKS)

chaos: build ## make chaos [FOR=10m] [SEED=s]: the worst clients and servers, healthy ones beside; nothing may be left
	@$(GO) build -o bin/chaos ./tools/chaos
	@bin/chaos -profiles bin -for $(FOR) $(if $(SEED),-seed $(SEED))

soak: build ## make soak [FOR=10m]: saturation; no leak, no growth, a flat p99
	@$(GO) build -o bin/chaos ./tools/chaos
	@bin/chaos -profiles bin -soak -for $(FOR)

handshakes: build ## make handshakes [COUNT=100000] [SEED=s]: TLS handshakes, 5 % of them cut anywhere; nothing may be left
	@$(GO) build -o bin/chaos ./tools/chaos
	@bin/chaos -handshakes $(COUNT) $(if $(SEED),-seed $(SEED))

calls: build ## the system calls per request and per connection, beside HAProxy's
	@tools/packages haproxy strace
	@$(GO) run ./tools/calls

probecost: build ## what each level of the probes costs, beside strace, perf trace and bpftrace
	@tools/packages $(COST_PACKAGES)
	@$(GO) build -o bin/probecost ./tools/probecost
	@bin/probecost

recordings: build ## make recordings [SCENE=name]: testdata/recording from live processes, and its golden reports
	@tools/packages $(TEST_PACKAGES) iproute2
	@$(GO) build -o bin/ ./tools/spinlab ./tools/recordings
	@bin/recordings $(if $(SCENE),-scene $(SCENE))
	$(GO) test ./internal/recording -run Goldens -update

demo: build ## the founding case from end to end: bring it back, name it, heal it
	@bin/whyspin demo

catalogue: build ## make catalogue [CASE=name] [RUNS=n]: every case of the lab, judged by ledger, by probes, by both
	@tools/packages haproxy nodejs
	@$(GO) build -o bin/catalogue ./tools/catalogue
	@bin/catalogue $(if $(RUNS),-runs $(RUNS)) $(CASE)

differential: build ## make differential [CASE=regexp]: the same clients and servers against HAProxy and whyspin, compared
	@tools/packages haproxy
	@$(GO) build -o bin/differential ./tools/differential
	@bin/differential $(if $(CASE),-run '$(CASE)')

bench: build ## make bench [CASE=row]: CPU per unit of work against HAProxy and nginx
	@tools/packages $(BENCH_PACKAGES)
	@$(GO) build -o bin/bench ./tools/bench
	@bin/bench $(if $(CASE),-case $(CASE))

generate: ## compile bpf/ and write the objects and Go code that are committed
	@tools/packages $(GENERATE_PACKAGES)
	$(GO) generate ./internal/probe

check-generate: ## prove that the committed objects are those of the sources: same instructions, same types
	@tools/packages $(GENERATE_PACKAGES)
	$(GO) run ./tools/checkgenerate
	$(GO) test -tags clang ./tools/checkgenerate

lint: ## gofmt, go vet, staticcheck, clang-format
	@tools/packages $(GENERATE_PACKAGES)
	@test -z "$$(gofmt -l cmd internal tools)" || { gofmt -l cmd internal tools; echo "run gofmt on these"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	clang-format-19 --dry-run --Werror bpf/*.c bpf/*.h

fuzz: ## fuzz the parsers, FUZZTIME each
	$(GO) test -run '^$$' -fuzz FuzzParse -fuzztime $(FUZZTIME) ./internal/config
	$(GO) test -run '^$$' -fuzz Fuzz -fuzztime $(FUZZTIME) ./internal/control
	$(GO) test -run '^$$' -fuzz FuzzSessions -fuzztime $(FUZZTIME) ./internal/haproxy
	$(GO) test -run '^$$' -fuzz FuzzRead -fuzztime $(FUZZTIME) -fuzzminimizetime 20x ./internal/recording
	$(GO) test -run '^$$' -fuzz FuzzFrames -fuzztime $(FUZZTIME) ./internal/symbol
	$(GO) test -run '^$$' -fuzz FuzzExpression -fuzztime $(FUZZTIME) ./internal/symbol
	$(GO) test -run '^$$' -fuzz FuzzGoFrames -fuzztime $(FUZZTIME) ./internal/symbol

clean: ## remove what was built
	rm -rf bin

# besa: bare `make` lists the targets.
GO        ?= go
BIN       ?= bin/besa
FUZZTIME  ?= 30s
ASSETS    ?= $(shell scripts/fetch-assets.sh --print-dir)
SMOLLM2   ?= $(ASSETS)/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
CC        ?= cc
NATIVE    ?= bin/libggml-besa.so
CALIB     ?= ../shared/data/c4/c4-calibration.json.gz
EVALTEXT  ?= ../shared/data/wikitext-2/wiki.valid.raw

export CGO_ENABLED ?= 0

.PHONY: help build install demo test test-short test-race test-kernels lint fmt fmt-check generate generate-check assets fuzz bench cross golden protocol-d ablations native native-sanitize memory-7b convert-speed precision-cost test-arm64

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

build: ## build bin/besa
	$(GO) build -trimpath -o $(BIN) ./cmd/besa

install: ## install besa into Go's bin folder
	$(GO) install -trimpath ./cmd/besa

demo: build ## the whole job on the tiny model in the binary
	$(BIN) demo

assets: ## fetch what tests need (libllama, SmolLM2) into the cache
	scripts/fetch-assets.sh

test: assets ## all tests; fetches what they need first
	BESA_TEST_REQUIRE_ASSETS=1 $(GO) test -timeout 15m ./...

test-short: ## the tests that need nothing from outside
	$(GO) test -short ./...

test-race: ## the concurrent packages under the race detector
	CGO_ENABLED=1 $(GO) test -race -short -timeout 25m ./gguf ./sparsefmt ./internal/kernel ./internal/decoder ./besa ./convert

test-kernels: ## the engine's tests on every kernel implementation
	for k in generic avx2 avx512 avx512bf16; do BESA_KERNEL=$$k $(GO) test -count=1 ./internal/decoder ./besa || exit 1; done

lint: fmt-check ## gofmt and golangci-lint (.golangci.yml)
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

fmt-check:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }

generate: ## regenerate the assembly
	$(GO) generate ./internal/kernel

generate-check: generate ## fail if the committed assembly is not what the generators make
	git diff --exit-code -- internal/kernel

cross: ## build for other systems and processors
	GOOS=linux GOARCH=arm64 $(GO) vet ./...
	GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/besa
	GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/besa

fuzz: ## run every fuzz target for FUZZTIME
	scripts/fuzz.sh $(FUZZTIME)

bench: ## kernel and format benchmarks
	$(GO) test -run '^$$' -bench . ./internal/kernel ./sparsefmt ./gguf

NATIVE_C = $(filter-out native/src/test_%.c,$(wildcard native/src/*.c))
CFLAGS   ?= -O3

native: ## build the ggml plugin bin/libggml-besa.so with the C compiler alone
	@mkdir -p $(dir $(NATIVE))
	$(CC) -std=c11 -D_GNU_SOURCE $(CFLAGS) -Wall -Wextra -fPIC -shared -fvisibility=hidden -Wl,-z,nodelete -Wl,--no-undefined \
		-o $(NATIVE) $(NATIVE_C) -ldl -lpthread

native-sanitize: ## the plugin's kernels and the plugin in ggml under AddressSanitizer and UndefinedBehaviorSanitizer
	BESA_TEST_REQUIRE_SANITIZERS=1 $(GO) test -count=1 -v -run TestSanitizers ./native

protocol-d: build assets ## reproduce the SmolLM2 figures of docs/results.md
	scripts/protocol-d.sh $(BIN) $(SMOLLM2) $(CALIB) $(EVALTEXT)

ABLATIONS ?= ablations
ABLATE    ?= --calib-samples 32 --calib-len 128 --ctx 256 --limit 16 --engine go

ablations: build assets ## the paper's ablations on SmolLM2, into docs/results.md
	$(BIN) ablate --calib $(CALIB) --data $(EVALTEXT) $(ABLATE) --out $(ABLATIONS) --into docs/results.md $(SMOLLM2)

memory-7b: build ## memory of a conversion of LLaMA-7B's shape, 128 windows of 2048 tokens, within 6 GiB
	scripts/memory-7b.sh $(BIN)

convert-speed: build assets ## speed of whole conversions in fp32 and bf16, as shares of the peak
	scripts/convert-speed.sh $(BIN) $(SMOLLM2) $(CALIB)

precision-cost: build assets ## perplexity in fp32 and in bf16, in pairs
	scripts/precision-cost.sh $(BIN) $(SMOLLM2) $(CALIB) $(EVALTEXT)

test-arm64: ## the engine's tests on the portable kernels of arm64, under qemu-user
	GOARCH=arm64 $(GO) test -short -timeout 60m -exec qemu-aarch64 ./internal/kernel ./internal/decoder ./besa

# skep: `make help` lists what there is. Each target installs what it lacks (Debian, rustup) and needs no other first.

PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: build run check test test-aarch64 test-peers engines images fuzz conformance lab bench bench-check bench-scale bench-image install clean help

build: ## build skep and skep-image for release: static, musl where rustup has it
	@hack/setup.sh build
	@hack/build.sh --images

run: ## build skep and show a container running (root)
	@hack/setup.sh run
	@hack/build.sh >/dev/null
	@hack/run-demo.sh

check: ## what every commit passes: format, lints, layers, docs, unit tests (no root)
	@hack/setup.sh check
	@hack/check.sh

test: ## all tests of the built binary on this kernel (root)
	@hack/setup.sh test
	@hack/test.sh

test-aarch64: ## the unit tests built for aarch64, run by qemu's user emulation
	@hack/setup.sh aarch64
	@hack/test-aarch64.sh

test-peers: ## the black-box tests on this host's runc and crun (root)
	@hack/setup.sh test
	@hack/setup.sh peers
	@hack/test-peers.sh

engines: ## Docker, Podman and containerd with skep, runc and crun (root)
	@hack/setup.sh build
	@SKEP=$$(hack/build.sh) && SKEP=$$SKEP integration/engines/run $(ARGS)

images: ## skep-image against skopeo and umoci (root); ARGS chooses tests by name
	@hack/setup.sh build
	@hack/setup.sh images
	@hack/build.sh --images >/dev/null
	@integration/images/run $(ARGS)

fuzz: ## feed skep-image mutated names, challenges, auth files, manifests and layers; ARGS chooses, SECONDS_EACH (60) bounds
	@hack/setup.sh check
	@hack/fuzz.sh $(ARGS)

conformance: ## the suites of runtime-tools, runc and crun on skep, or on RUNTIME=PATH (root)
	@hack/setup.sh build
	@SKEP=$$(hack/build.sh) && SKEP=$$SKEP integration/conformance/run $(ARGS)

lab: ## the tests in a virtual machine with systemd, cgroup v2, AppArmor, SELinux (root); ARGS="SUITE ..."
	@hack/setup.sh build
	@hack/setup.sh lab
	@hack/lab/test $(ARGS)

bench: ## compare the kernel's floor, skep, and crun and runc of three Debians (root); ARGS="--full --save"
	@hack/setup.sh build
	@SKEP=$$(hack/build.sh) && SKEP=$$SKEP integration/perf/bench $(or $(ARGS),--save)

bench-check: ## fail when skep is slower or larger than its budget, say which goals are met (root)
	@hack/setup.sh build
	@SKEP=$$(hack/build.sh) && SKEP=$$SKEP integration/perf/bench-check $(ARGS)

bench-scale: ## a thousand live containers of each runtime, and what each more costs (root)
	@hack/setup.sh build
	@SKEP=$$(hack/build.sh) && SKEP=$$SKEP integration/perf/scale $(or $(ARGS),--save)

bench-image: ## CPU of unpacking and pulling against umoci, tar, podman and skopeo (root); ARGS="--image DIR --rounds N"
	@hack/setup.sh build
	@hack/setup.sh images
	@hack/build.sh --images >/dev/null
	@bash -c '. hack/env.sh && SKEP_IMAGE=$$(image_binary) exec integration/perf/bench-image "$$@"' - $(ARGS)

install: ## install skep, manual pages and completions below DESTDIR and PREFIX
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' hack/install.sh

clean: ## remove what was built
	@rm -rf target integration/seccomp-oracle/target

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	@echo; echo '  ARGS=... goes to engines, images, fuzz, conformance, lab, bench, bench-check and bench-scale; PREFIX=$(PREFIX)'

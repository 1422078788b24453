# sse: one C file, libc only. `make` builds it in one compiler line; `make help` lists the rest.

CC      = cc
PREFIX  = /usr/local
WERROR  =
STD     = -std=c11 -pthread
WARN    = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wvla -Wcast-qual -Wwrite-strings -Wundef \
          -Wformat=2 -Wimplicit-fallthrough -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
HARDEN  = -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fPIE -pie -Wl,-z,relro,-z,now
CFLAGS  = -O2 -g
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# Tests are built once for each compiler, beside each other.
B       = build/$(CC)
TESTS   = $(patsubst test/%.c,%,$(wildcard test/test_*.c))
RUN     = ASAN_OPTIONS=abort_on_error=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1

sse: sse.c sse.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(HARDEN) -o $@ sse.c

.PHONY: help static demo run test unit system both django clients versions sanitized cover soak fuzz fuzz-replay fuzz-merge lint bench bench-tools \
	install man deb package ops clean deps
help:
	@echo "make            builds sse"
	@echo "make static     builds sse-static: one binary without any library (musl-gcc)"
	@echo "make demo       the example site: sse, Django, React and nginx, to look at in a browser"
	@echo "make run        builds it, starts it with a token file to try, and says how to see an event arrive"
	@echo "make test       everything: installs what the tests need, unit and system tests on gcc and clang"
	@echo "make unit       only the unit tests, with CC (cc)"
	@echo "make system     only the tests over real sockets, with CC (cc)"
	@echo "make django     only those beside a real Django, of the sanitized build/gcc/sse"
	@echo "make clients    the packages in clients/, with the sanitized build/gcc/sse"
	@echo "make ops        metrics, health, systemd's protocol, restarts under load, with the sanitized build/gcc/sse"
	@echo "make package    builds the Debian package, and installs it on a machine that systemd boots for that"
	@echo "make versions   sse-django with each Python and Django there is; QUICK=1: without the real sse"
	@echo "make cover      what of sse.c the tests reach, by lines and branches; QUICK=1: without the system tests"
	@echo "make soak       the release binary under abuse for MINUTES=30; what it showed goes to build/soak"
	@echo "make fuzz       libFuzzer over each of test/fuzz, SECONDS=60 each; FUZZ=json,http: only those"
	@echo "make fuzz-replay  the inputs that were kept, with CC"
	@echo "make lint       both compilers' warnings as errors, gcc -fanalyzer, clang-tidy, cppcheck, shellcheck"
	@echo "make bench-tools  builds build/load, build/floor and build/replay: the load clients and the floor"
	@echo "make bench      measures it beside its peers, into bench/results.md, 35 minutes; QUICK=1 for a short try"
	@echo "make install    into DESTDIR and PREFIX ($(PREFIX)): binary, man page, systemd units, configuration"
	@echo "make deb        a Debian package, build/sse_*.deb (needs debhelper)"
	@echo "make man        deploy/man/sse.1 anew, from sse --help (needs help2man)"

static: sse-static
# A static program at a random address: musl-gcc does not know how, so it is told the parts.
MUSL    = /usr/lib/$(shell uname -m)-linux-musl
sse-static: sse.c sse.h
	musl-gcc $(STD) $(WARN) -Os -s -fPIE -static -D_FORTIFY_SOURCE=2 -fstack-protector-strong \
		-fno-asynchronous-unwind-tables -ffunction-sections -Wl,--gc-sections -nostartfiles -Wl,-pie,--no-dynamic-linker,-z,relro,-z,now,-z,noseparate-code \
		-o $@ $(MUSL)/rcrt1.o $(MUSL)/crti.o sse.c $(MUSL)/crtn.o

run: sse
	@test/run

deps:
	@test/deps

test: deps
	test/check_faults
	$(MAKE) both WERROR=-Werror
	$(MAKE) sse static WERROR=-Werror
	test/check_binary
	@echo "system tests of the static binary"
	SSE_BIN=./sse-static build/gcc/system
	$(MAKE) django clients ops
	@echo "all tests passed"

both:
	$(MAKE) unit system fuzz-replay CC=gcc
	$(MAKE) unit system fuzz-replay CC=clang

$(B)/sse.o: sse.c sse.h | $(B)
	$(CC) $(STD) $(WARN) $(SANITIZE) -Dmain=sse_main -Wno-missing-prototypes -c -o $@ sse.c
$(B)/sse: sse.c sse.h | $(B)
	$(CC) $(STD) $(WARN) $(SANITIZE) -o $@ sse.c
$(B)/%.o: test/%.c sse.h $(wildcard test/*.h) | $(B)
	$(CC) $(STD) $(WARN) $(SANITIZE) -Wno-gnu-zero-variadic-macro-arguments -Wno-pedantic -I. -c -o $@ $<
$(B)/test_%: $(B)/test_%.o $(B)/world.o $(B)/sse.o
	$(CC) $(SANITIZE) -o $@ $^ -lcriterion
$(B)/test_model: $(B)/model.o
# All calls of sse.c into libc that may fail are renamed for test_sweep, which makes them fail: SWEPT. Those that cannot
# are KEPT; any other is one that nobody has thought about yet, and an error.
SWEPT   = malloc calloc realloc free mmap munmap accept4 recv sendmsg recvmmsg sendto shutdown setsockopt getpeername \
          getsockname close epoll_create1 epoll_ctl epoll_wait socket bind listen connect open read write pwritev poll \
          clock_gettime fstat lstat unlink rename fdatasync fsync ftruncate flock access faccessat opendir readdir closedir \
          getrandom getrlimit setrlimit prctl sigprocmask signalfd socketpair syscall pthread_create pthread_join
KEPT    = fcntl getenv getsockopt isatty sysconf __.* mem.* str.* bcmp explicit_bzero environ gmtime_r inet_ntop inet_pton qsort sigaddset sigemptyset signal \
          htons ntohs umask _exit geteuid getpid setuid setgid setgroups swept_.*
$(B)/swept.o: $(B)/sse.o Makefile
	objcopy $(foreach call,$(SWEPT),--redefine-sym $(call)=swept_$(call)) $< $@
	@! nm -u $@ | awk '{ print $$2 }' | grep -vxE '$(subst $(eval) ,|,$(strip $(KEPT)))'
$(B)/test_sweep: $(B)/test_sweep.o $(B)/swept.o
	$(CC) $(SANITIZE) -o $@ $^ -lcriterion
$(B)/system: $(B)/system.o $(B)/sse
	$(CC) $(SANITIZE) -o $@ $(B)/system.o -lcriterion
$(B):
	mkdir -p $@
.PRECIOUS: $(B)/%.o

unit: $(TESTS:%=$(B)/%) $(B)/sse
	@for t in $(TESTS:%=$(B)/%); do echo "$$t"; SSE_BIN=$(B)/sse $(RUN) $$t || exit 1; done

system: $(B)/system
	$(RUN) SSE_BIN=$(B)/sse $(B)/system

# sse beside a real Django with Django REST framework; they are installed into build/test-venv.
django: sanitized
	$(SANITIZED) test/django/run

clients: sanitized
	clients/react/run
	clients/example/frontend/run
	$(SANITIZED) clients/django/tests/run
	$(SANITIZED) clients/example/backend/tests/run
	$(SANITIZED) clients/example/e2e/run

# What an operator relies on; and the package: built, linted, installed on a machine that systemd has booted.
ops: sanitized
	$(SANITIZED) test/ops/run
package:
	test/package/run

demo:
	@clients/example/demo

versions: sanitized
	$(SANITIZED) clients/django/tests/versions $(PYTHONS)

SANITIZED = SSE_BIN=$(CURDIR)/build/gcc/sse UBSAN_OPTIONS=print_stacktrace=1
sanitized:
	$(MAKE) build/gcc/sse CC=gcc

# Fuzzing. test/fuzz/fuzz_X.c is linked with libFuzzer into build/fuzz/X, or with a main that replays files. New inputs
# go into build/fuzz/corpus/X; `make fuzz-merge` keeps those of them that reach something new in test/fuzz/corpus/X.
comma   = ,
FUZZ    = $(patsubst test/fuzz/fuzz_%.c,%,$(wildcard test/fuzz/fuzz_*.c))
FUZZES  = $(subst $(comma), ,$(FUZZ))
SECONDS = 60
# Targets that run at a time.
JOBS    = 1
F       = build/fuzz
# Only sse.c is looked at for what an input reaches.
FUZZER  = $(SANITIZE) -O2 -fsanitize=fuzzer-no-link -fsanitize-coverage-ignorelist=test/fuzz/plain
FUZZ_CFLAGS = $(STD) $(WARN) -Wno-gnu-zero-variadic-macro-arguments -Wno-pedantic -Itest/fuzz/stub -Itest -I.
FUZZ_RUN = ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:handle_abort=0 UBSAN_OPTIONS=print_stacktrace=1
FUZZ_HEADERS = sse.h $(wildcard test/*.h test/fuzz/*.h test/fuzz/stub/criterion/*.h)

FUZZ_WORLD = auth datagram journal tokens
# To look at what is compared with what takes half of the time, and finds nothing more where the target itself, or its
# dictionary, has the words.
FUZZ_NOCMP = $(FUZZ_WORLD) server ticket
FUZZ_KERNEL = -include test/fuzz/kernel.h

$(F)/sse.o: sse.c sse.h test/fuzz/kernel.h test/fuzz/plain | $(F)
	clang $(STD) $(WARN) $(FUZZER) $(FUZZ_KERNEL) -Dmain=sse_main -Wno-missing-prototypes -c -o $@ sse.c
$(F)/nocmp.o: sse.c sse.h test/fuzz/kernel.h test/fuzz/plain | $(F)
	clang $(STD) $(WARN) $(FUZZER) -fno-sanitize-coverage=trace-cmp -DKERNEL_MEMCMP $(FUZZ_KERNEL) -Dmain=sse_main \
		-Wno-missing-prototypes -c -o $@ sse.c
$(F)/kernel.o: test/fuzz/kernel.c test/fuzz/kernel.h | $(F)
	clang $(FUZZ_CFLAGS) -O2 -g -c -o $@ $<
$(F)/%.o: test/%.c $(FUZZ_HEADERS) | $(F)
	clang $(FUZZ_CFLAGS) $(SANITIZE) -O2 $(FUZZ_KERNEL) -c -o $@ $<
$(F)/%.o: test/fuzz/%.c $(FUZZ_HEADERS) | $(F)
	clang $(FUZZ_CFLAGS) $(SANITIZE) -O2 $(FUZZ_KERNEL) -c -o $@ $<
$(FUZZ_NOCMP:%=$(F)/%): $(F)/%: $(F)/fuzz_%.o $(F)/fuzz.o $(F)/kernel.o $(F)/nocmp.o
	clang $(SANITIZE) -fsanitize=fuzzer -o $@ $^
$(F)/%: $(F)/fuzz_%.o $(F)/fuzz.o $(F)/kernel.o $(F)/sse.o
	clang $(SANITIZE) -fsanitize=fuzzer -o $@ $^
$(F):
	mkdir -p $@
.PRECIOUS: $(F)/%.o

# The same without libFuzzer.
R       = $(B)/replay
$(R)/%.o: test/%.c $(FUZZ_HEADERS) | $(R)
	$(CC) $(FUZZ_CFLAGS) $(SANITIZE) -c -o $@ $<
$(R)/%.o: test/fuzz/%.c $(FUZZ_HEADERS) | $(R)
	$(CC) $(FUZZ_CFLAGS) $(SANITIZE) -c -o $@ $<
$(B)/replay_%: $(R)/fuzz_%.o $(R)/fuzz.o $(R)/replay.o $(B)/sse.o
	$(CC) $(SANITIZE) -o $@ $^
$(R):
	mkdir -p $@
.PRECIOUS: $(R)/%.o

$(FUZZ_WORLD:%=$(F)/%): $(F)/worlds.o
$(FUZZ_WORLD:%=$(F)/%) $(F)/server: $(F)/world.o
$(F)/server: $(F)/model.o
$(FUZZ_WORLD:%=$(B)/replay_%): $(R)/worlds.o
$(FUZZ_WORLD:%=$(B)/replay_%) $(B)/replay_server: $(R)/world.o
$(B)/replay_server: $(R)/model.o

fuzz: $(FUZZES:%=$(F)/%)
	@test/fuzz/all $(JOBS) $(SECONDS) $(FUZZES)

fuzz-merge: $(FUZZES:%=$(F)/%)
	@for t in $(FUZZES); do test/fuzz/merge $$t || exit 1; done

fuzz-replay: $(FUZZES:%=$(B)/replay_%)
	@for t in $(FUZZES); do $(FUZZ_RUN) $(B)/replay_$$t test/fuzz/corpus/$$t || exit 1; done

cover: deps
	test/cover

soak: sse
	test/soak/run

# The long ones first, two at a time.
LINTS   = lint-tidy lint-analyze lint-cppcheck lint-compilers lint-shell
lint: deps
	$(MAKE) -j2 --output-sync=target $(LINTS)
.PHONY: $(LINTS)
lint-compilers:
	gcc $(STD) $(WARN) -Werror $(CFLAGS) $(HARDEN) -o /dev/null sse.c
	clang $(STD) $(WARN) -Werror $(CFLAGS) $(HARDEN) -o /dev/null sse.c
	for f in bench/*.c; do gcc $(STD) $(WARN) -Werror -O2 -I. -fsyntax-only $$f || exit 1; done
lint-analyze:
	test/analyze
# Its clang-analyzer-* is what scan-build and clang --analyze do.
lint-tidy:
	clang-tidy --quiet sse.c -- $(STD)
lint-cppcheck:
	cppcheck $(CPPCHECK) sse.c bench/*.c
CPPCHECK = --quiet --std=c11 --library=posix --error-exitcode=1 --inline-suppr --enable=warning,performance,portability \
	--suppress=missingIncludeSystem $(CPPCHECK_WRONG)
# What its idea of POSIX is wrong about: mmap of descriptor -1, _exit of a number, and a readdir that is thread-safe.
CPPCHECK_WRONG = --suppress=invalidFunctionArg --suppress=invalidFunctionArgBool --suppress=readdirCalled
# Every script that git knows and whose first line names a shell.
lint-shell:
	git ls-files -z | xargs -0 awk 'FNR == 1 && /^#!.*[\/ ](ba|da)?sh( |$$)/ { print FILENAME } { nextfile }' | xargs shellcheck

bench-tools: build/load build/floor build/replay
build/%: bench/%.c
	mkdir -p build
	$(CC) $(STD) $(WARN) -O2 -g -o $@ $<

# Measures sse beside its peers (bench/results.md), 35 minutes; QUICK=1: 5 minutes, into build/bench.
bench: sse bench-tools
	bench/deps
	build/bench/venv/bin/python bench/bench.py $(if $(QUICK),--quick)

# Binary, man page, units, and what belongs to them. Paths in the units follow PREFIX; /etc, /run and /var are where they
# always are. A configuration that is there is left alone.
MANDIR  = $(PREFIX)/share/man
UNITDIR = $(PREFIX)/lib/systemd/system
DOCDIR  = $(PREFIX)/share/doc/sse
EXAMPLES = nginx/sse.conf caddy/Caddyfile sysctl.d/90-sse.conf site.conf grafana/sse.json prometheus/alerts.yml
install: sse
	install -D -m 755 sse $(DESTDIR)$(PREFIX)/bin/sse
	install -D -m 644 deploy/man/sse.1 $(DESTDIR)$(MANDIR)/man1/sse.1
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)/etc/sse
	for u in deploy/systemd/sse*; do \
		sed 's|/usr/bin/sse|$(PREFIX)/bin/sse|' $$u >$(DESTDIR)$(UNITDIR)/$${u##*/} && \
		chmod 644 $(DESTDIR)$(UNITDIR)/$${u##*/} || exit 1; done
	install -D -m 644 deploy/sysusers.d/sse.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/sse.conf
	install -D -m 644 deploy/logrotate.d/sse $(DESTDIR)/etc/logrotate.d/sse
	test -e $(DESTDIR)/etc/sse/sse.conf || install -m 644 deploy/sse.conf $(DESTDIR)/etc/sse/sse.conf
	install -D -m 644 README.md $(DESTDIR)$(DOCDIR)/README.md
	install -D -m 644 deploy/README.md $(DESTDIR)$(DOCDIR)/deploy.md
	for f in $(EXAMPLES); do install -D -m 644 deploy/$$f $(DESTDIR)$(DOCDIR)/examples/$$f || exit 1; done

# From sse --help and deploy/man/sse.h2m; the date is that of the last release. MAN: where to.
MAN     = deploy/man/sse.1
man: sse
	mkdir -p build
	help2man --no-info --include=deploy/man/sse.h2m --output=build/undated.1 deploy/man/help
	date=$$(date -u -d "$$(sed -n 's/^ -- .*>  //p' deploy/debian/changelog | head -n 1)" +%F) && \
		sed "/^\.TH/s/\"[A-Z][a-z]* [0-9]*\"/\"$$date\"/" build/undated.1 >$(MAN)

# build/sse_0.1.0-1_ARCH.deb, in a copy of what it is made from. DEB_VERSION: another version than that of the changelog.
deb:
	rm -rf build/deb
	mkdir -p build/deb/sse
	cp -r sse.c sse.h Makefile README.md LICENSE deploy build/deb/sse/
	mv build/deb/sse/deploy/debian build/deb/sse/debian
	$(if $(DEB_VERSION),sed -i '1s/(.*)/($(DEB_VERSION))/' build/deb/sse/debian/changelog)
	cd build/deb/sse && dpkg-buildpackage --build=binary --no-sign
	mv build/deb/*.deb build/deb/*.changes build/deb/*.buildinfo build/
	ls build/*.deb

clean:
	rm -rf build sse sse-static

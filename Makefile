# One command each, nothing to prepare: every target makes its own .venv and installs what it needs.
#
#   make demo       compile the demo model for this machine and ask it about three pictures
#   make test       linters, types and all tests
#   make lint       linters and types only
#   make test-arm   the demo model on an emulated ARM board (installs qemu and gcc by apt)
#   make test-arm-kernels  the kernels of every ARM target under emulation (installs qemu and gcc by apt)
#   make test-levels  what depends on the CPU, once for each level of instruction sets that it has
#   make test-vulkan  kernels and the demo model on a software GPU (installs Mesa's driver by apt)
#   make native     the program for devices without Python, into build/native (minutes the first time)
#   make test-native  the same, and its tests: natively and under emulation (installs qemu by apt)
#   make full-size  a random checkpoint of the full shape, compiled and run (12 GB of memory, 8 GB of disk)
#   make wheel      dist/handglass-*.whl

PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
# ruff does not follow the symlinks in handglass/ and reads each room at the top; mypy reads them there.
TYPED  := handglass tests $(wildcard benchmarks/*.py examples/*.py)

.PHONY: demo test test-levels test-vulkan test-arm test-arm-kernels native test-native lint full-size wheel lock-wheels clean
.DEFAULT_GOAL := demo

# --- environments: a stamp per set of packages, so that a second run goes straight to work ---

$(BIN)/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/compile.stamp: pyproject.toml | $(BIN)/python
	@echo "installing handglass and the TVM compiler into .venv"
	$(PIP) install --editable '.[compile]'
	@touch $@

# torch alone and by exact version first: a range would fetch a CUDA build of several gigabytes.
.venv/test.stamp: pyproject.toml | $(BIN)/python
	@echo "installing handglass, torch and the test tools into .venv"
	$(PIP) install torch==2.13.0
	$(PIP) install --editable '.[compile,tune,test,dev]'
	@touch $@ .venv/compile.stamp

# --- what people type ---

DEMO     := examples/demo-checkpoint
PICTURES := $(sort $(wildcard examples/pictures/*.png))
ASK       = $(BIN)/handglass run --model build/demo

demo: .venv/compile.stamp
	$(BIN)/handglass compile --model $(DEMO) --output build/demo --target host --overwrite
	$(ASK) --image $(word 1,$(PICTURES)) --prompt "What is this picture?"
	$(ASK) --image $(word 2,$(PICTURES)) --prompt "How many shapes are there?"
	$(ASK) --image $(word 2,$(PICTURES)) --image $(word 3,$(PICTURES)) --prompt "Which picture has more shapes?"
	$(ASK) --image $(word 3,$(PICTURES)) --prompt "这张图里有什么？"

full-size: .venv/compile.stamp
	$(BIN)/python benchmarks/full_size.py

# Headers for the C++ library behind Vulkan; without them, and without apt, its tests are skipped.
VULKAN_HEADERS = { echo '\#include <vulkan/vulkan.h>' | $${CXX:-g++} -E -x c++ - ; } >/dev/null 2>&1 || { \
	apt-get update -qq && apt-get install -y --no-install-recommends libvulkan-dev g++; } || \
	echo "libvulkan-dev could not be installed: tests that need the Vulkan library are skipped"

# Two workers, each with whole files: modules share what they compile.
test: lint
	@$(VULKAN_HEADERS)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# One machine proves the others' paths: abilities are masked (runtime/system/cpu_level.py), the lowest level
# first. Levels above this CPU are emulated in each run: dot products, and AMX beside AVX-512 VNNI.
test-levels: .venv/test.stamp
	@levels=$$($(BIN)/python tests/support/levels.py) && test -n "$$levels" && for level in $$levels; do \
	  echo "--- this CPU as one with $$level" && \
	  HANDGLASS_CPU_LEVEL=$$level $(BIN)/python -m pytest -m levels || exit 1; done

ARM_TOOLS = { command -v qemu-aarch64 && command -v aarch64-linux-gnu-g++; } >/dev/null || { \
	apt-get update -qq && apt-get install -y --no-install-recommends qemu-user g++-aarch64-linux-gnu; }

# What `make test` skips where qemu or the cross compiler is missing.
test-arm-kernels: .venv/test.stamp
	@$(ARM_TOOLS)
	$(BIN)/python -m pytest tests/kernels/test_arm_kernels.py tests/kernels/test_arm_assembly.py tests/devices/test_target_build.py

# The demo model, doctor and tuning on an emulated ARM board: builds an arm64 tree in build/arm.
test-arm: .venv/test.stamp
	@$(ARM_TOOLS)
	HANDGLASS_TEST_ARM=1 $(BIN)/python -m pytest -m arm

# A driver that runs on the CPU, and the layer that watches how the interface is used.
VULKAN_TOOLS = dpkg -s mesa-vulkan-drivers libvulkan-dev vulkan-validationlayers g++ >/dev/null 2>&1 || { \
	apt-get update -qq && apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1 \
	  libvulkan-dev vulkan-validationlayers g++; }

# Every Vulkan test; then those for cooperative matrices again on a newer driver that has them.
test-vulkan: .venv/test.stamp
	@$(VULKAN_TOOLS)
	HANDGLASS_TEST_VULKAN=1 $(BIN)/python -m pytest -m vulkan
	tests/support/newer_mesa.sh build/mesa $(BIN)/python
	HANDGLASS_TEST_VULKAN=1 build/mesa/python -m pytest -m vulkan \
	  tests/kernels/test_vulkan_matrix.py tests/kernels/test_vulkan_emit_matrices.py
	$(BIN)/python examples/plain_tvm_vulkan.py

# Objects are kept in the user's cache: only what has changed is compiled again.
native: .venv/compile.stamp
	@$(BIN)/python -c 'import ziglang' 2>/dev/null || $(PIP) install --editable '.[compile,cross]'
	$(BIN)/python -m handglass.targets.linking.native aarch64 build/native/aarch64
	$(BIN)/python -m handglass.targets.linking.native x86_64 build/native/x86_64

test-native: .venv/test.stamp native
	@$(ARM_TOOLS)
	$(BIN)/python -m pytest tests/native/test_native_run.py tests/native/test_native_device.py \
	  tests/native/test_native_build.py tests/native/test_native_request.py

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)

# The exact packages that 'handglass deploy' brings to a device: newest versions, hashes as published.
lock-wheels: .venv/compile.stamp
	$(BIN)/python -m handglass.targets.deploy.lock_wheels

wheel: | $(BIN)/python
	rm -rf build/lib build/bdist.*
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:
	rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache handglass.egg-info

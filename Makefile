# Every target sets up what it needs: a virtual environment in .venv, nothing outside this folder but the build cache.
PYTHON ?= python3
PY := .venv/bin/python
RUN := $(PY) -m
export OMP_NUM_THREADS ?= 2

.PHONY: setup demo test lint types check bench bench-speed bench-resnet18 bench-resnet18-structure bench-resnet20 bench-accuracy bench-near-optimum bench-choice bench-sensitivity bench-finetune train-cifar bench-solver bench-resources bench-energy bench-explore bench-hardware-aware bench-memory bench-rounding generate clean

setup: .venv/.done

.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q --disable-pip-version-check torch==2.13.0
	.venv/bin/pip install -q --disable-pip-version-check -e '.[test,demo]'
	touch $@

demo: setup
	$(PY) examples/01_demo_digits.py

test: setup lint types
	$(RUN) pytest -n 2 --dist loadfile

lint: setup
	$(RUN) ruff check src tests examples benchmarks
	$(RUN) ruff format --check src tests examples benchmarks

types: setup
	$(RUN) mypy

check: test

generate: setup
	$(PY) -m bitloom.program.generate

bench: bench-speed bench-resnet18 bench-resnet20 bench-accuracy bench-near-optimum bench-choice bench-sensitivity bench-finetune bench-solver bench-resources bench-energy bench-explore bench-hardware-aware bench-memory bench-rounding

bench-resnet18: setup
	$(PY) benchmarks/bench_resnet18.py

bench-resnet18-structure: setup
	$(PY) benchmarks/bench_resnet18.py --structural --images 1

bench-resnet20: setup
	$(PY) benchmarks/bench_resnet20.py

bench-accuracy: setup
	$(PY) benchmarks/bench_accuracy.py

bench-near-optimum: setup
	$(PY) benchmarks/bench_near_optimum.py

bench-choice: setup
	$(PY) benchmarks/bench_choice.py --network resnet20
	$(PY) benchmarks/bench_choice.py --network resnet18 --budgets 2 2.5 3 4

bench-speed: setup
	$(PY) benchmarks/bench_speed.py --networks resnet18 resnet34 resnet50 --batch 1 8
	$(PY) benchmarks/bench_speed.py --networks vgg16
	$(PY) benchmarks/bench_speed.py --networks resnet18 --stalls 20
	$(PY) benchmarks/bench_speed.py --networks resnet18 resnet50 --accuracy 600

train-cifar: setup
	$(PY) benchmarks/train_cifar.py

bench-finetune: setup
	$(PY) benchmarks/bench_finetune.py

bench-sensitivity: setup
	$(PY) benchmarks/bench_sensitivity.py

bench-solver: setup
	.venv/bin/pip install -q --disable-pip-version-check -e '.[solvers]'
	$(PY) benchmarks/bench_solver.py

bench-resources: setup
	$(PY) benchmarks/bench_resources.py --timing

bench-energy: setup
	.venv/bin/pip install -q --disable-pip-version-check -e '.[bench]'
	$(PY) benchmarks/bench_energy.py

bench-explore: setup
	$(PY) benchmarks/bench_explore.py

bench-hardware-aware: setup
	$(PY) benchmarks/bench_hardware_aware.py --measure 600

bench-rounding: setup
	$(PY) benchmarks/bench_rounding.py

bench-memory: setup
	$(PY) benchmarks/bench_memory.py

clean:
	rm -rf build out .pytest_cache .mypy_cache .ruff_cache

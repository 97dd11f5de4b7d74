# The two that matter: `make site` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules

PROFILE ?= tf1
PROFILES ?= tf1,recipe,modern
SCENARIO ?= $(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml))
ANSIBLE_ARGS ?=
# Programs of the checkout's own environment come first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_HOME := $(CURDIR)/.ansible
COLLECTION := .ansible/collections/ansible_collections/crophpc/maskrcnn
# The tools without an ending are shell scripts.
SHELL_SCRIPTS := $(filter-out %.py %.cfg,$(wildcard tools/*)) .ci/run molecule/images/cluster/machine \
	molecule/images/tunnels/note-question molecule/images/tunnels/one-time-code roles/tunnels/files/maskrcnn
MIRROR_DIR := $(CURDIR)/build/mirror

.DEFAULT_GOAL := help
.PHONY: help site mirror test shells check units docs archive integration molecule bench pins requirements release \
	clean _site_venv _dev_venv

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

site: _site_venv ## the main job: a working Mask R-CNN env for you on this machine (PROFILE=tf1 or tf1,modern; MIRROR=, ANSIBLE_ARGS=)
	@PROFILE=$(PROFILE) tools/site $(ANSIBLE_ARGS)

mirror: _dev_venv ## build the offline mirror, build/mirror (PROFILES=tf1,recipe,modern; MASKRCNN_PYTHON36=, MASKRCNN_PYTHON312=)
	@command -v gcc >/dev/null || tools/apt-install gcc libc6-dev
	@command -v git >/dev/null || tools/apt-install git
	@.venv/bin/python tests/fixtures/mirror --output $(MIRROR_DIR) --profiles $(PROFILES)

test: shells check docs archive integration molecule ## everything: checks, units, integration with real packages, the container scenarios

# For the unit tests of what users run on their own computers.
shells:
	@for shell in dash busybox; do command -v "$$shell" >/dev/null || tools/apt-install "$$shell"; done

check: _dev_venv units ## lint, types and units: the inner loop
	@ruff check .
	@ruff format --check .
	@mypy
	@mypy docs/conf.py
	@yamllint --strict .
	@shellcheck $(SHELL_SCRIPTS)
	@ansible-lint --offline
	@python tools/check_roles.py
	@python tools/lock_pip.py --check
	@tools/ansible-test sanity

units: _dev_venv ## unit tests (those of maskrcnn in the shells that are here: dash, bash, busybox)
	@tools/ansible-test units

# uv leaves byte-code to the first import, which may not write any: then every ansible-playbook compiles Ansible anew.
# The playbooks come first, which take long; the modules' short tests fill the gap at the end.
integration: mirror ## the module and the playbook with the mirror's real packages, on this machine
	@python -m compileall -q .venv/lib/python3*/site-packages/{ansible,cryptography,jinja2,markupsafe,packaging,resolvelib,yaml}
	@MASKRCNN_MIRROR=$(MIRROR_DIR) pytest -v --numprocesses 2 --no-loadscope-reorder --durations 15 tests/integration

molecule: mirror archive ## the container scenarios, or one of them (SCENARIO=site)
	@tools/docker-engine
	@for image in $$(sed -n 's/^ *image: crophpc-maskrcnn-\(.*\):latest$$/\1/p' \
			$(SCENARIO:%=molecule/%/molecule.yml) | sort -u); do tools/test-image "$$image"; done
	@MASKRCNN_MIRROR=$(MIRROR_DIR) MOLECULE_COMMAND_BORDERS=false \
		molecule -c molecule/shared/base.yml test $(SCENARIO:%=--scenario-name %)

bench: mirror ## how long envs take, beside `cp -al` and the usual ways; build/bench.json (BENCH_DIR=, BENCH_CONDA=, BENCH_MICROMAMBA=)
	@tools/docker-engine
	@tools/test-image
	@python tests/bench --mirror $(MIRROR_DIR)

# All is made anew: pages depend on files that are not theirs. antsibull-docs wants a folder that only its owner can write.
docs: _dev_venv ## the documentation as a site, build/docs/html: docs, and the reference of all modules and roles
	@antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs dependent \
		--disallow-unknown-collection-refs --skip-rstcheck .
	@rm -rf build/docs
	@mkdir -p build/docs/source && mkdir -m 0755 build/docs/source/reference && cp docs/* build/docs/source
	@antsibull-docs collection --use-current --squash-hierarchy --fail-on-error \
		--dest-dir build/docs/source/reference crophpc.maskrcnn
	@sphinx-build --quiet -W --keep-going build/docs/source build/docs/html
	@echo "The site: build/docs/html/index.html"

archive: _dev_venv ## the collection's archive, checked by Galaxy's rules and installed, build/archive
	@tools/archive

release: check docs ## the same of a commit that is in the changelog: what is to be published, with its checksum
	@tools/archive --release

pins: _dev_venv ## after a change to a profile: its hashed pip requirements (PROFILE=tf1)
	@python tools/lock_pip.py $(PROFILE)

requirements: _dev_venv ## after a change to requirements*.in: the hashed requirements
	@for name in requirements requirements-dev roles/conda_engine/files/requirements \
			tests/integration/playbooks/conda tests/integration/playbooks/pytest36 \
			$(basename $(wildcard tests/integration/playbooks/cores/*.in)); do \
		python=3.11; [[ $$name != *36 ]] || python=3.6; [[ $$name != */cores/* ]] || python=3.12; \
		UV_SYSTEM_CERTS=1 uv pip compile --quiet --python-version $$python --generate-hashes --no-annotate \
			--custom-compile-command "make requirements" $$name.in --output-file $$name.txt; done

clean: ## remove what was built here (not the env)
	rm -rf .venv .ansible build .*_cache

_site_venv: $(COLLECTION)
	@tools/venv requirements.txt

_dev_venv: $(COLLECTION)
	@tools/venv requirements-dev.txt

# The checkout is the collection, found where Ansible looks for it.
$(COLLECTION):
	@mkdir -p $(dir $@)
	@ln -sfn ../../../.. $@

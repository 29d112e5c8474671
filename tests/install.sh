#!/bin/sh
# install.sh LOCK [UV]: install the locked requirements and this checkout (editable) into .venv, with uv when it is there.
set -e
lock=$1
uv=$2
if [ -n "$uv" ]; then
  "$uv" pip install -q --python .venv/bin/python --require-hashes -r "$lock"
  "$uv" pip install -q --python .venv/bin/python --no-deps -e .
else
  .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null  # a .venv that uv made
  # --use-pep517: one data package comes as source only, and pip's older way of building it warns
  .venv/bin/python -m pip install -q --disable-pip-version-check --use-pep517 --require-hashes -r "$lock"
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .
fi

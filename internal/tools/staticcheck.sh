#!/usr/bin/env bash
# Runs the pinned staticcheck on the module: internal/tools/staticcheck.sh [packages]. Its module graph is that of
# internal/tools/go.mod, so that the main one stays small.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec go tool -modfile=internal/tools/go.mod staticcheck "${@:-./...}"

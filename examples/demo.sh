#!/usr/bin/env bash
# Shows the main job on a fresh Debian or Ubuntu machine: installs what the build needs, builds,
# and runs `lakebed demo` (an in-process broker, local tables, nothing else).
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/lakebed/target}"

bash tests/parts/install.sh --build-only
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
# Exactly what `tests/run.sh` builds, so that nothing is compiled twice by whoever runs both: cargo
# chooses the features of dependencies by what is built, examples (with what only tests need) included.
cargo build --locked --workspace --bins --examples --features failpoints
exec "$CARGO_TARGET_DIR/debug/lakebed" demo "$@"

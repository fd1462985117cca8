#!/usr/bin/env bash
# Passes every test on a fresh Debian or Ubuntu machine: installs what is missing, then style,
# lints, documentation, unit and property tests, and the live tests on real servers.
#
# Compiled dependencies and downloaded servers are kept outside the clone, so that a second run is
# fast. `LAKEBED_SHARED` names a folder with recorded topics; without it those tests say so.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/lakebed/target}"
export LAKEBED_PARTS="${LAKEBED_PARTS:-$HOME/.cache/lakebed/parts}"
export LAKEBED_SHARED="${LAKEBED_SHARED:-$(cd .. && pwd)/shared}"
export CARGO_TERM_COLOR=never

step() { printf '\n== %s (%(%H:%M:%S)T)\n' "$1" -1; }

step "what the machine needs"
bash tests/parts/install.sh
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"

step "style"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --features failpoints --locked -- -D warnings

step "documentation"
# The selection that the lints have checked already: by default cargo would choose other features of
# dependencies, and check the largest of them again.
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --lib --examples --features failpoints \
  --locked --quiet

step "unit, property and conformance tests"
# Much of it waits for the disk, so that more of it at once than there are cores is quicker.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(nproc) * 2))}"
cargo test --workspace --features failpoints --locked

step "live tests"
export LAKEBED_BIN="$CARGO_TARGET_DIR/debug/lakebed"
exec "$LAKEBED_PARTS/venv/bin/python" -m pytest tests/live -q -ra --durations=15 -p no:cacheprovider

#!/usr/bin/env bash
# Installs what is not there yet; run it as often as you like.
#   install.sh --build-only   what building takes: Debian packages and Rust
#   install.sh                and what the tests take: Debian packages, a Python environment and the
#                             jars, both in ${LAKEBED_PARTS:-$HOME/.cache/lakebed/parts}
# Debian packages need root or sudo, and nothing is asked of either when all are present. The second
# form prints the path of the environment's python, and nothing else, on stdout.
set -euo pipefail
exec 3>&1 1>&2

tests=$(cd "$(dirname "$0")/.." && pwd)
cache=${LAKEBED_PARTS:-$HOME/.cache/lakebed/parts}
mkdir -p "$cache"

# Two runs at once would install the same things twice, on top of each other.
exec 9>"$cache/install.lock"
flock 9

install_packages() {
  local missing=() package status root=()
  for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "installing ${missing[*]}"
  [ "$(id -u)" = 0 ] || root=(sudo)
  # Debian starts a service as soon as it is installed, unless a policy forbids: the tests want the
  # programs, not a server on the usual port. An existing policy is left as it is.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
    "${root[@]}" chmod 755 $policy
    trap "${root[*]} rm -f $policy" EXIT
  fi
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    "${missing[@]}"
}

# The toolchain itself comes with the first build: cargo reads rust-toolchain.toml.
install_rust() {
  command -v cargo >/dev/null || [ -x "$HOME/.cargo/bin/cargo" ] && return
  echo "installing Rust into ~/.cargo"
  local script="$cache/rustup-init.sh"
  curl --proto '=https' --tlsv1.2 -sSf --retry 3 -o "$script" \
    https://static.rust-lang.org/rustup/rustup-init.sh
  sh "$script" -y --default-toolchain none --profile minimal --no-modify-path
}

build=(build-essential pkg-config libssl-dev zlib1g-dev ca-certificates curl git)
test=(openjdk-17-jre-headless maven postgresql mariadb-server-core mariadb-client-core python3
  python3-venv openssl util-linux)

if [ "${1:-}" = --build-only ]; then
  install_packages "${build[@]}"
  install_rust
  exit
fi
install_packages "${build[@]}" "${test[@]}"
install_rust

# Named after the list it was made from; the mark is written last, so that an interrupted
# installation is begun again. `venv` points to the one that was asked for last.
environment=$cache/venv-$(sha256sum "$tests/requirements.txt" | cut -c 1-12)
if [ ! -e "$environment/complete" ]; then
  echo "installing the Python packages into $environment"
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check \
    --retries 5 --timeout 60 -r "$tests/requirements.txt"
  touch "$environment/complete"
fi
ln -sfn "$environment" "$cache/venv"

(cd "$tests" && "$environment/bin/python" -m parts fetch)
echo "$environment/bin/python" >&3

#!/usr/bin/env bash
# Installs what the tests need and is not there yet: Debian packages (only as root or through sudo),
# a Python environment and the jars, both in ${LAKEBED_PARTS:-$HOME/.cache/lakebed/parts}.
# Prints the path of that environment's python, and nothing else, on stdout. Run it as often as you like.
set -euo pipefail
exec 3>&1 1>&2

tests=$(cd "$(dirname "$0")/.." && pwd)
cache=${LAKEBED_PARTS:-$HOME/.cache/lakebed/parts}
mkdir -p "$cache"

# Two runs at once would install the same things twice, on top of each other.
exec 9>"$cache/install.lock"
flock 9

packages=(
  openjdk-17-jre-headless maven postgresql python3 python3-venv openssl util-linux
  build-essential pkg-config libssl-dev zlib1g-dev
  ca-certificates curl git
)
missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  # Debian starts a service as soon as it is installed, unless a policy forbids: the tests want the
  # programs, not a server on the usual port. An existing policy is left as it is.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
    "${root[@]}" chmod 755 $policy
    trap '"${root[@]}" rm -f $policy' EXIT
  fi
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    "${missing[@]}"
fi

# Named after the list it was made from; the mark is written last, so that an interrupted
# installation is begun again.
environment=$cache/venv-$(sha256sum "$tests/requirements.txt" | cut -c 1-12)
if [ ! -e "$environment/complete" ]; then
  echo "installing the Python packages into $environment"
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check \
    --retries 5 --timeout 60 -r "$tests/requirements.txt"
  touch "$environment/complete"
fi

(cd "$tests" && "$environment/bin/python" -m parts fetch)
echo "$environment/bin/python" >&3

#!/usr/bin/env bash
# Makes a base for the sandbox image where none can be pulled: a small Debian with Python, by debootstrap, imported into the engine.
# Needs root, debootstrap and docker.
set -euo pipefail

tag=${1:?usage: tools/sandbox-base.sh TAG [SUITE] [MIRROR]}
suite=${2:-bookworm}
# Where this machine's own packages come from.
mirror=${3:-$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep -v security | head -1)}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

debootstrap --variant=minbase "$suite" "$root" "$mirror"
# What installs dependencies, the libraries of the python-data profile, and what Node is linked with.
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
  python3 python3-pip python3-numpy python3-pandas python3-matplotlib dash libstdc++6 libatomic1
# What no program in a sandbox needs.
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,info,locale,lintian} "$root"/var/log/*
find "$root/usr" "$root/bin" "$root/sbin" -xdev -type f -perm /6000 -exec chmod ug-s {} +
tar -C "$root" --numeric-owner --one-file-system --exclude='./dev/*' -c . | docker import - "$tag"

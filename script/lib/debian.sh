# shellcheck shell=bash
# Gets what is missing on a Debian machine: packages, and a Rust toolchain where there is none. Sourced after say.sh, never run.

# The oldest compiler that the project builds with; `rust-version` of Cargo.toml.
rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

# How root is reached: nothing for root itself, sudo for others, and the word `none` where there is no way.
if [ "$(id -u)" = 0 ]; then
    as_root=()
elif command -v sudo >/dev/null; then
    as_root=(sudo)
else
    as_root=(none)
fi

# Whether version $1 is at least version $2.
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# Installs those of the named packages that are missing. Services that come with them are not started, and no database cluster is
# made: the project runs a private one.
need_packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "these Debian packages, or what they hold, are missing: ${missing[*]}"
    [ "${as_root[*]}" != none ] || fail "ask root to install: apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    local log
    log=$(mktemp)
    if ! "${as_root[@]}" bash -s -- "${missing[@]}" >"$log" 2>&1 <<'ROOT'
set -eu
export DEBIAN_FRONTEND=noninteractive
made=()
cleanup() { [ ${#made[@]} -eq 0 ] || rm -f -- "${made[@]}"; }
trap cleanup EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then
    made+=(/usr/sbin/policy-rc.d)
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
if [ ! -d /etc/postgresql ]; then
    mkdir -p /etc/postgresql-common/createcluster.d
    made+=(/etc/postgresql-common/createcluster.d/batchyard.conf)
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/batchyard.conf
fi
apt=(apt-get -q -y -o DPkg::Lock::Timeout=300)
"${apt[@]}" update
"${apt[@]}" install --no-install-recommends "$@" </dev/null
ROOT
    then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install ${missing[*]}: see above"
    fi
    rm -f "$log"
}

# The emulator of blob containers that nodes mount in tests: a package of npm, kept in target/.
need_emulator() {
    local version=3.35.0 folder=target/azurite
    [ "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' $folder/node_modules/azurite/package.json 2>/dev/null)" != $version ] || return 0
    command -v npm >/dev/null || need_packages npm
    say "installing azurite $version in $folder"
    mkdir -p $folder
    npm install --prefix $folder --no-save --no-audit --no-fund --silent azurite@$version >$folder/log 2>&1 || {
        tail -n 20 $folder/log >&2
        fail "npm could not install azurite $version: see above"
    }
}

# Puts a Node.js on the PATH that Playwright runs on; Debian 12's is older. One from the registry of packages, for this folder alone.
need_node() {
    local wanted=20 version=24.21.0 folder=target/node name found
    found=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
    [ "${found:-0}" -lt $wanted ] || return 0
    name=node-linux-$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
    if [ ! -x "$folder/node_modules/$name/bin/node" ]; then
        say "installing Node.js $version in $folder"
        mkdir -p $folder
        npm install --prefix $folder --no-save --no-audit --no-fund --silent "$name@$version" >$folder/log 2>&1 || {
            tail -n 20 $folder/log >&2
            fail "npm could not install $name $version: see above"
        }
    fi
    PATH="$PWD/$folder/node_modules/$name/bin:$PATH"
}

# Version $2 of the Python package $1, which Debian does not have, in the folder $3: nothing of the system is changed.
need_wheel() {
    local name=${1%%[*} version=$2 folder=$3
    [ ! -d "$folder/${name//-/_}-$version.dist-info" ] || return 0
    /usr/bin/python3 -m pip --version >/dev/null 2>&1 || need_packages python3-pip
    say "installing $name $version in $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    /usr/bin/python3 -m pip install -q --disable-pip-version-check --no-compile --only-binary :all: --target "$folder" \
        "$1==$version" >"$folder.log" 2>&1 || {
        tail -n 20 "$folder.log" >&2
        fail "pip could not install $name $version: see above"
    }
}

# TensorFlow.
need_tensorflow() { need_wheel tensorflow-cpu 2.15.1 target/tensorflow; }

# The emulator of buckets of S3, in which outputs are kept in tests.
need_moto() { need_wheel 'moto[server,s3]' 5.2.5 target/moto; }

# Puts a cargo on the PATH that is new enough. Installs one for this user alone, and only where there is none.
need_rust() {
    command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
    if ! command -v cargo >/dev/null; then
        say "installing Rust $rust_wanted for this user"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y -q --profile minimal --component rustfmt,clippy --default-toolchain "$rust_wanted" --no-modify-path \
                >/dev/null || fail "no Rust toolchain, and rustup could not install one: see https://rustup.rs"
    fi
    local found
    found=$(cargo --version | cut -d ' ' -f 2)
    version_at_least "$found" "$rust_wanted" ||
        fail "cargo is $found, and at least $rust_wanted is needed: 'rustup update' or see https://rustup.rs"
}

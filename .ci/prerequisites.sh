#!/bin/bash
# Makes sure that there is a PostgreSQL that ram can run (13 to 18), and is
# quiet when there is. As root on Debian it installs one; as an ordinary user
# it names the command to run.
#
# ram makes its own data directories, so Debian is kept from creating its
# "main" cluster, and from starting anything, while the package is installed.
# Both files that tell it so are gone again afterwards, and neither replaces a
# file of the administrator.
set -euo pipefail

readonly oldest=13 newest=18
readonly no_cluster=/etc/postgresql-common/createcluster.d/ram-no-main-cluster.conf
readonly no_start=/usr/sbin/policy-rc.d
readonly mark='written by prerequisites.sh of ram; gone when the installation ends'

made_directory=

say() { echo "prerequisites: $*"; }

fail() {
  echo "prerequisites: $*" >&2
  exit 1
}

# usable PATH: whether that is a postgres program of a version that ram runs.
usable() {
  local version
  [[ -x $1 ]] || return 1
  version=$("$1" --version 2>/dev/null | sed -nE 's/^postgres .* ([0-9]+)[.a-z].*/\1/p') || return 1
  [[ -n $version ]] && ((version >= oldest && version <= newest))
}

have_postgres() {
  local candidate
  for candidate in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres "$(type -P postgres || true)"; do
    if usable "$candidate"; then return 0; fi
  done
  return 1
}

# offered PACKAGE: whether the package sources have it.
offered() { [[ $(apt-cache policy "$1" 2>/dev/null) =~ Candidate:\ [^\(] ]]; }

# choose_package prints the distribution's own version, or else the newest one
# that its sources offer.
choose_package() {
  local version
  for version in $(apt-cache depends postgresql 2>/dev/null | sed -nE 's/.*Depends: postgresql-([0-9]+)$/\1/p') \
    $(seq "$newest" -1 "$oldest"); do
    if ((version >= oldest && version <= newest)) && offered "postgresql-$version"; then
      echo "postgresql-$version"
      return 0
    fi
  done
  return 1
}

apt_install() {
  local log
  log=$(mktemp)
  if ! DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends "$@" >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    fail "apt-get could not install $*; see its output above"
  fi
  rm -f "$log"
}

hold_debian_back() {
  if [[ ! -d ${no_cluster%/*} ]]; then
    mkdir -p "${no_cluster%/*}"
    made_directory=1
  fi
  printf '# %s\ncreate_main_cluster = false\n' "$mark" >"$no_cluster"
  # An existing policy is the administrator's word on what may start.
  if [[ ! -e $no_start && ! -L $no_start ]]; then
    printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$no_start"
    chmod 0755 "$no_start"
  fi
}

left_behind() { grep -lsF "$mark" "$no_cluster" "$no_start" || true; }

# Also clears what a run that was killed has left behind.
let_debian_go() {
  local file
  for file in $(left_behind); do rm -f "$file"; done
  if [[ $made_directory ]]; then rmdir --ignore-fail-on-non-empty "${no_cluster%/*}"; fi
}

install_postgres() {
  local package
  say "reading Debian's package lists"
  apt-get -q -y -o DPkg::Lock::Timeout=300 update >/dev/null 2>&1 </dev/null ||
    say "apt-get update failed; going on with the lists that are here"
  package=$(choose_package) ||
    fail "no PostgreSQL $oldest to $newest in the package sources; add a source that has one, then run this again"

  trap let_debian_go EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  hold_debian_back
  apt_install postgresql-common
  # The administrator's createcluster.conf may not read our file.
  if [[ $(pg_conftool /etc/postgresql-common/createcluster.conf show -bs create_main_cluster || true) != off ]]; then
    fail "/etc/postgresql-common/createcluster.conf would create a cluster; add the line" \
      "'create_main_cluster = false' to it, then run this again"
  fi
  say "installing $package, without a cluster of Debian's own"
  apt_install "$package"
  have_postgres || fail "$package is installed but $(echo /usr/lib/postgresql/*/bin)/postgres does not run; run it by hand to see why"
  say "installed $(echo /usr/lib/postgresql/*/bin/postgres)"
}

main() {
  if have_postgres && [[ $EUID != 0 || -z $(left_behind) ]]; then return 0; fi
  type -P apt-get >/dev/null ||
    fail "PostgreSQL is missing; install the server of any version from $oldest to $newest with this system's package manager"
  ((EUID == 0)) ||
    fail "PostgreSQL is missing; run once as root: $(realpath "$0")"

  # One installation at a time; the second finds the work done.
  exec 9<"$0"
  flock 9
  let_debian_go
  if have_postgres; then return 0; fi
  install_postgres
}

main

#!/bin/bash
# make demo: a cluster on this machine, from nothing to a changed spec. It uses a
# copy of quickstart.hcl, cleans up after itself, and leaves the cluster running
# with KEEP=1. It wants ramd and ramctrl in bin (make build) and PostgreSQL.
set -euo pipefail

readonly home=$(cd "$(dirname "$0")/.." && pwd)
PATH=$home/bin:$PATH
work=    # directory of the copy
cluster= # its name
net=     # the first three numbers of its addresses
trying=  # set while something may run

bold='' faint='' blue='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR-} && ${TERM-dumb} != dumb ]]; then
  bold=$'\e[1m' faint=$'\e[2m' blue=$'\e[1;34m' red=$'\e[1;31m' plain=$'\e[0m'
fi

heading() { printf '\n%s== %s%s\n' "$blue" "$1" "$plain"; }
say() { printf '%s\n' "$@"; }
show() { printf '\n%s$ %s%s\n' "$bold" "$1" "$plain"; }
fail() {
  printf '%sdemo: %s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}

# run shows a command as it would be typed, and runs it.
run() {
  local shown=$1
  [[ $# == 1 ]] || printf -v shown '%s %s' "$1" "$(quoted "${@:2}")"
  show "$shown"
  "$@"
}

# quoted WORD...: as a person would quote it for the shell.
quoted() {
  local word out=()
  for word; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@+-]+$ ]]; then
      out+=("$word")
    elif [[ $word == *\"* ]]; then
      out+=("'$word'")
    else
      out+=("\"$word\"")
    fi
  done
  printf '%s' "${out[*]}"
}

# apply shows the plan only when there is nothing else to show: it was shown just
# before.
apply() {
  show 'ramctrl apply quickstart.hcl --auto-approve'
  ramctrl apply quickstart.hcl --auto-approve 2>&1 |
    awk 'run { print; fflush(); next } { plan = plan $0 "\n" } /^Plan:/ { run = 1; print "(the same plan)" } END { if (!run) printf "%s", plan }'
}

# sql runs psql on the primary, or with --node on another, without the blank lines
# at the end.
sql() {
  run ramctrl psql "$@" 2>&1 | awk '/^$/ { blank++; next } { for (; blank; blank--) print ""; print }'
}

# versions prints the major versions of PostgreSQL that are installed, newest first.
versions() {
  local program
  for program in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres "$(type -P postgres || true)"; do
    if [[ -x $program ]]; then "$program" --version | sed -nE 's/^postgres .* ([0-9]+)[.a-z].*/\1/p'; fi
  done | sort -rn | uniq
}

# free ADDRESS: nobody listens there on a port that a node uses.
free() {
  local port
  for port in 5432 7400 8080; do
    if (: <"/dev/tcp/$1/$port") 2>/dev/null; then return 1; fi
  done
}

# place finds a name and four addresses that nothing uses: another demo may have
# been kept, or another cluster be tried out.
place() {
  local i last
  for ((i = 0; i < 50; i++)); do
    cluster=demo
    ((i == 0)) || cluster=demo-$i
    if ramctrl dev status "$cluster" >/dev/null 2>&1; then continue; fi
    for last in 11 12 13 14; do free "127.0.$i.$last" || continue 2; done
    net=127.0.$i
    return 0
  done
  fail "no addresses from 127.0.0.11 to 127.0.49.14 are free; see what runs with: ramctrl dev status"
}

# prepare makes the copy of the quickstart, fitted to this machine.
prepare() {
  local installed version
  type -P ramd ramctrl >/dev/null || fail "ramd and ramctrl are missing; run make build, or make demo"
  installed=$(versions)
  [[ $installed ]] || fail "PostgreSQL is missing; run make prerequisites, or install the server of any version from 13 to 18"
  version=$(sed -nE 's/^ *version *= *([0-9]+).*/\1/p' "$home/examples/quickstart.hcl")
  grep -qx "$version" <<<"$installed" || version=${installed%%$'\n'*}
  place
  work=$(mktemp -d "${TMPDIR:-/tmp}/ram-demo.XXXXXX")
  cd "$work"
  sed -E -e "s/^( *version *=) *[0-9]+/\1 $version/" -e "s/cluster \"demo\"/cluster \"$cluster\"/" \
    -e "s/127\.0\.0\.(1[1-4])/$net.\1/" -e '1,/^$/ { /ramctrl dev up/s,examples/,, }' \
    "$home/examples/quickstart.hcl" >quickstart.hcl
  say "A copy of examples/quickstart.hcl in $work, for PostgreSQL $version:" "$faint"
  sed -n '/^cluster/,$p' quickstart.hcl
  say "$plain"
}

# cleanup runs however the demo ends.
cleanup() {
  local code=$? log
  trap '' INT TERM HUP
  trap - EXIT
  if ((code > 128)); then
    printf '\n%sInterrupted.%s\n' "$red" "$plain"
  elif ((code != 0)) && [[ $trying ]]; then
    printf '\n%sThe demo has failed (exit code %s).%s\n' "$red" "$code" "$plain"
    ramctrl dev status quickstart.hcl || true
    for log in $(ramctrl dev status quickstart.hcl -o json 2>/dev/null | sed -nE 's/.*"log": "(.*)".*/\1/p'); do
      printf '\nThe end of %s:\n' "$log"
      tail -n 12 "$log" || true
    done
  elif [[ $trying && ${KEEP-} && ${KEEP-} != 0 ]]; then
    kept
    exit 0
  fi
  if [[ $trying ]] && ramctrl dev status quickstart.hcl >/dev/null 2>&1; then
    run ramctrl dev down quickstart.hcl || code=1
  fi
  if [[ $work ]]; then rm -rf "$work"; fi
  exit "$code"
}

kept() {
  heading 'It goes on running'
  say 'Look at it, with:' '' \
    "  cd $work && PATH=$home/bin:\$PATH" \
    "  eval \"\$(ramctrl dev env $cluster)\"" \
    '  ramctrl status --watch' \
    '  ramctrl psql' '' \
    'and when done:' '' \
    "  ramctrl dev down $cluster && rm -r $work"
}

# primary and standby print the name of one.
primary() { ramctrl status -o json | sed -nE 's/^  "primary": "(.*)",?$/\1/p'; }
standby() { if [[ $(primary) == b ]]; then echo a; else echo b; fi; }

# replaced NODE: waits until another one is the primary.
replaced() {
  local i now
  for ((i = 0; i < 100; i++)); do
    now=$(primary)
    if [[ $now && $now != "$1" ]]; then return 0; fi
    sleep 0.1
  done
  fail "no other node has become the primary"
}

# settled waits until all is as the spec says.
settled() {
  local i
  for ((i = 0; i < 300; i++)); do
    if ramctrl plan quickstart.hcl --detailed-exitcode >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  fail "the cluster does not settle"
}

# arrived NODE [ROWS]: waits for the rows to be visible there; a commit waits until a
# standby has it, not until it shows it.
arrived() {
  local i
  for ((i = 0; i < 100; i++)); do
    if [[ $(ramctrl psql --node "$1" -- -Atqc 'select count(*) from rams' 2>/dev/null) == "${2:-3}" ]]; then return 0; fi
    sleep 0.1
  done
  fail "the rows have not come to node $1"
}

main() {
  local began=$SECONDS other old pid
  unset "${!RAM_@}" "${!RAMD_@}" "${!PG@}"
  export PSQLRC=/dev/null PAGER=cat
  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP

  heading 'A spec: one file says what the cluster is'
  prepare

  heading 'Three daemons, which on real hosts are three machines'
  say 'Each ramd gets the same spec. Together they form a Raft group; there is no' \
    'PostgreSQL yet.'
  trying=1
  run ramctrl dev up quickstart.hcl
  show 'eval "$(ramctrl dev env quickstart.hcl)"'
  eval "$(ramctrl dev env quickstart.hcl)"

  heading 'The plan: what would be done, and why'
  run ramctrl plan quickstart.hcl

  heading 'Apply: the daemons do it'
  apply
  run ramctrl status

  heading 'Rows go in at the primary and come out at a standby'
  other=$(standby)
  sql -- -c "create table rams (name text); insert into rams values ('Dolly'), ('Shaun'), ('Timmy')"
  arrived "$other"
  sql --node "$other" -- -c "select name, pg_is_in_recovery() as on_a_standby from rams"
  say '' 'A standby takes no writes:'
  sql --node "$other" -- -c "delete from rams" || true

  heading 'A changed file is a changed cluster'
  run sed -i 's/"8MB"/"16MB"/' quickstart.hcl
  run ramctrl plan quickstart.hcl
  apply
  sql --node "$other" -- -c "show work_mem"

  heading 'The primary is killed'
  old=$(primary)
  pid=$(ramctrl psql --node "$old" -- -Atqc "select split_part(pg_read_file('postmaster.pid'), e'\n', 1)")
  run kill -9 "$pid"
  replaced "$old"
  run ramctrl explain
  say '' 'The rows are there, and so is the former primary, as a standby:'
  sql -- -c "insert into rams values ('Lambert')"
  sql -- -c "select count(*) as rams from rams"
  settled
  run ramctrl status

  heading 'A fourth node'
  show "edit quickstart.hcl: node \"d\" { host = \"$net.14\" }"
  sed -i '$d' quickstart.hcl
  printf '\n  node "d" {\n    host = "%s.14"\n  }\n}\n' "$net" >>quickstart.hcl
  run ramctrl dev up quickstart.hcl | sed '/^$/d; /^Next:/,$d'
  run ramctrl plan quickstart.hcl
  apply
  arrived d 4
  sql --node d -- -c "select count(*) as rams_on_d from rams"
  run ramctrl status

  heading "Done in $((SECONDS - began)) seconds"
}

main

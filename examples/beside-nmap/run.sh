#!/usr/bin/env bash
# Times smtpsweep beside nmap: same machine, same targets, same answers, in turn.
# Builds two network namespaces with no way out (needs root, iproute2, nmap);
# nothing leaves this machine.
#
#   examples/beside-nmap/run.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-5}
work=$(mktemp -d)
sc=ssb$$s tg=ssb$$t
cleanup() {
	[ -z "${zoo:-}" ] || kill "$zoo" 2>/dev/null || true
	ip netns del $sc 2>/dev/null || true
	ip netns del $tg 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

go build -o "$work/smtpsweep" ./cmd/smtpsweep
go build -o "$work/zoo" ./examples/zoo

ip netns add $sc
ip netns add $tg
ip link add a0 netns $sc type veth peer name b0 netns $tg
ip -n $sc addr add 10.20.9.7/24 dev a0
ip -n $tg addr add 10.20.9.1/24 dev b0
for ns in $sc $tg; do ip -n $ns link set lo up; done
ip -n $sc link set a0 up
ip -n $tg link set b0 up
ip -n $sc route add default via 10.20.9.1
ip -n $tg route add local 10.64.0.0/12 dev lo # every address of it is a host
ip netns exec $tg sysctl -qw net.ipv4.tcp_max_syn_backlog=65536 net.core.somaxconn=65535

ours() { ip netns exec $sc env XDG_STATE_HOME="$work/state" "$work/smtpsweep" scan -q "$@"; }
# one prints seconds of wall and of processor time, and MiB, of a command.
one() {
	local out=$work/time
	command time -f '%e %U %S %M' -o "$out" "$@" >/dev/null 2>"$work/err" || { cat "$work/err" >&2; exit 1; }
	awk '{ printf "%.2f %.2f %.0f\n", $1, $2 + $3, $4 / 1024 }' "$out"
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# compare NAME ENDPOINTS nmap-arguments -- smtpsweep-arguments
# prints medians. Every endpoint must have its row.
compare() {
	local name=$1 n=$2
	shift 2
	local nmap=()
	while [ "$1" != -- ]; do nmap+=("$1"); shift; done
	shift
	: >"$work/n" >"$work/s"
	for _ in $(seq "$runs"); do
		one ip netns exec $sc nmap "${nmap[@]}" -oX "$work/nmap.xml" >>"$work/n"
		rm -f "$work"/s.*
		one ip netns exec $sc env XDG_STATE_HOME="$work/state" "$work/smtpsweep" scan -q --force -o "$work/s.csv" "$@" >>"$work/s"
		[ $(wc -l <"$work/s.csv") = $((n + 1)) ] || { echo "$name: not every endpoint has a row" >&2; exit 1; }
	done
	for who in n s; do
		for column in 1 2 3; do cut -d' ' -f$column "$work/$who" | median; done | paste -sd' '
	done | paste -sd' ' | awk -v name="$name" -v n="$n" '{
		printf "%-34s nmap %7.2f s %6.2f s CPU %4d MiB | smtpsweep %7.2f s %6.2f s CPU %4d MiB | %5.1f x as fast, %.2f x the CPU (%d endpoints)\n",
			name, $1, $2, $3, $4, $5, $6, $1 / ($4 + 0.001), $5 / ($2 + 0.001), n }'
}

plain=(-n -Pn -sT -T5 --min-rate 1000000 -p 25,465,587)
fast=(--rate 0 --host-limit 10000 --patience 0)
compare "closed, 16,384 x 3" 49152 "${plain[@]}" 10.64.0.0/18 -- "${fast[@]}" 10.64.0.0/18

ip netns exec $tg "$work/zoo" -is good -listen 0.0.0.0:25,0.0.0.0:587 >/dev/null &
zoo=$!
until ip netns exec $sc "$work/smtpsweep" scan -q -f targets --expect open -p 25,587 10.64.0.1 >/dev/null 2>&1; do :; done
compare "open, ports only, 8,192 x 2" 16384 -n -Pn -sT -T5 --min-rate 1000000 -p 25,587 10.64.0.0/19 -- "${fast[@]}" --probe port -p 25,587 10.64.0.0/19
compare "full conversation, 1,024 servers" 1024 -n -Pn -sT -T5 -p 25 --script banner,smtp-commands,ssl-cert 10.64.0.0/22 -- "${fast[@]}" -p 25 10.64.0.0/22
compare "one port of this machine" 1 -n -Pn -sT -p 1 127.0.0.1 -- --probe port -p 1 127.0.0.1
for _ in $(seq "$runs"); do
	one ip netns exec $sc env XDG_STATE_HOME="$work/state" "$work/smtpsweep" scan -q --force -o "$work/s.csv" 10.64.0.0/22
done | median | xargs printf '%s: %s s\n' "smtpsweep, 1,024 x 3 with full conversations at its default pace"

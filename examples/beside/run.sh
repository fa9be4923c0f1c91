#!/usr/bin/env bash
# Measures smtpsweep beside nmap, and beside zgrab2 if it is on PATH: same
# machine, same targets, same answers, in turn. Builds two network namespaces
# without a way out (needs root, iproute2, GNU time, nmap); nothing leaves this
# machine. It prints medians, and what DESIGN.md section 5 wants of them.
#
#   examples/beside/run.sh [RUNS [ROW...]]     all rows, 5 runs each, unless said
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-5}
shift || true
rows=${*:-start closed open conversation memory}
for program in ip nmap go /usr/bin/time; do
	command -v "$program" >/dev/null || { echo "$program is missing (Debian: iproute2 nmap golang time)" >&2; exit 1; }
done
work=$(mktemp -d)
sc=ssb$$s tg=ssb$$t
servers=()
stop() { # what listens
	[ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null || true
	[ ${#servers[@]} = 0 ] || wait "${servers[@]}" 2>/dev/null || true
	servers=()
}
cleanup() {
	stop
	ip netns del $sc 2>/dev/null || true
	ip netns del $tg 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

CGO_ENABLED=0 go build -o "$work/smtpsweep" ./cmd/smtpsweep
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
ulimit -n "$(ulimit -Hn)"

# serve BEHAVIOUR PORT... puts a server on every address, and returns when it answers.
serve() {
	local name=$1 args=() port
	shift
	for port in "$@"; do args+=("$name=0.0.0.0:$port"); done
	ip netns exec $tg "$work/zoo" "${args[@]}" >/dev/null &
	servers+=($!)
	for port in "$@"; do
		until ip netns exec $sc env XDG_STATE_HOME="$work/state" "$work/smtpsweep" scan -q --probe port --expect open -p "$port" 10.64.0.1 >/dev/null 2>&1; do :; done
	done
}

# measure TOOL COMMAND... appends seconds of wall and of processor, and MiB, to
# the figures of the tool.
measure() {
	local tool=$1
	shift
	/usr/bin/time -f '%e %U %S %M' -o "$work/time" ip netns exec $sc env XDG_STATE_HOME="$work/state" "$@" >"$work/out" 2>"$work/err" ||
		{ cat "$work/err" >&2; exit 1; }
	awk '{ printf "%.2f %.2f %.0f\n", $1, $2 + $3, $4 / 1024 }' "$work/time" >>"$work/$tool.figures"
}

# ours ENDPOINTS ARGUMENTS... is a sweep with journal and CSV; every endpoint must have its row.
ours() {
	local n=$1
	shift
	rm -f "$work"/s.*
	measure smtpsweep "$work/smtpsweep" scan -q -o "$work/s.csv" "$@"
	[ "$(wc -l <"$work/s.csv")" = $((n + 1)) ] || { echo "not every endpoint has a row" >&2; exit 1; }
}
nmaps() { measure nmap nmap -n -Pn -sT -T5 -oX "$work/nmap.xml" "$@"; }

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# row TITLE N GOAL prints the medians of all tools, and their ratios to ours.
row() {
	local title=$1 n=$2 goal=$3 tool column figures
	printf '%s (medians of %d; goal: %s)\n' "$title" "$runs" "$goal"
	local mine
	mine=$(for column in 1 2 3; do cut -d' ' -f$column "$work/smtpsweep.figures" | median; done | paste -sd' ')
	for tool in smtpsweep nmap zgrab2; do
		[ -s "$work/$tool.figures" ] || continue
		figures=$(for column in 1 2 3; do cut -d' ' -f$column "$work/$tool.figures" | median; done | paste -sd' ')
		echo "$figures $mine" | awk -v tool="$tool" -v n="$n" '{
			wall = $1 > 0 ? $1 : 0.005
			printf "  %-10s %8.2f s %10.0f/s %9.1f us CPU each %5d MiB", tool, $1, n / wall, $2 / n * 1e6, $3
			if (tool != "smtpsweep" && $4 > 0 && $2 > 0) printf "   ours: %5.2f x as fast, %4.2f x the CPU", $1 / $4, $5 / $2
			print "" }'
	done
	rm -f "$work"/*.figures
}

has() { [[ " $rows " == *" $1 "* ]]; }
fast=(--rate 0 --host-limit 10000 --patience 0)

if has start; then
	# A port of this machine that is closed: start, one probe, journal, table, end. By
	# the clock of the shell, because GNU time knows hundredths of seconds only.
	for tool in nmap smtpsweep; do
		command=(nmap -n -Pn -sT -p 1 127.0.0.1)
		[ $tool = nmap ] || command=("$work/smtpsweep" scan -q --probe port -p 1 127.0.0.1)
		for _ in $(seq $((runs * 4))); do
			from=${EPOCHREALTIME/./}
			XDG_STATE_HOME="$work/state" "${command[@]}" >/dev/null 2>&1
			echo $((${EPOCHREALTIME/./} - from))
		done | median | awk -v tool=$tool '{ printf "start to end of one probe: %-10s %5.1f ms\n", tool, $1 / 1000 }'
	done
	echo "  (goal: at most 30 ms to the first probe)"
fi
if has closed; then
	for _ in $(seq "$runs"); do
		nmaps --min-rate 1000000 -p 25,465,587 10.64.0.0/18
		ours 49152 "${fast[@]}" 10.64.0.0/18
	done
	row "closed, 16,384 x 3" 49152 "2 x nmap, 0.75 x its CPU"
fi
if has open; then
	serve mute 25 465 587
	for _ in $(seq "$runs"); do
		nmaps --min-rate 1000000 -p 25,465,587 10.64.0.0/18
		ours 49152 "${fast[@]}" --probe port 10.64.0.0/18
	done
	stop
	row "open, ports only, 16,384 x 3" 49152 "1.4 x nmap"
fi
if has conversation; then
	serve good 25
	# What follows an address is the name that zgrab2 gives in EHLO: without one, it
	# says none and gets a 501. It does greeting, EHLO, STARTTLS, certificate, QUIT;
	# we say EHLO again inside TLS, judge the certificate, and write a second report.
	hosts=$work/hosts
	for a in $(seq 0 31); do for b in $(seq 0 255); do echo "10.64.$a.$b,client.example.org"; done; done >"$hosts"
	zgrab=(zgrab2 smtp -p 25 --senders=1000 --send-quit)
	if command -v zgrab2 >/dev/null; then # its flags are others in every version
		: >"$work/nobody"
		help=$(zgrab2 smtp --help 2>&1 || true)
		while read -r words; do
			if grep -q -e "${words%% *} " -e "${words%% *}=" <<<"$help"; then
				read -ra words <<<"$words"
				zgrab+=("${words[@]}")
			fi
		done <<-END
			--starttls
			--send-ehlo
			--blocklist-file $work/nobody
		END
	fi
	for _ in $(seq "$runs"); do
		nmaps -p 25 --script banner,smtp-commands,ssl-cert 10.64.0.0/19
		! command -v zgrab2 >/dev/null || measure zgrab2 "${zgrab[@]}" -f "$hosts" -o "$work/zgrab.json" -m "$work/zgrab.meta" -l /dev/null
		! command -v zgrab2 >/dev/null || [ "$(grep '"ehlo":"250' "$work/zgrab.json" | grep -c handshake_log)" -ge 8192 ] || echo "zgrab2: not every conversation came to EHLO and TLS" >&2
		ours 8192 "${fast[@]}" -p 25 10.64.0.0/19
		[ "$(grep -c ',TLS 1.3\|,TLSv1.3\|,1\.3,' "$work/s.csv")" -ge 8192 ] || { echo "not every conversation came to TLS" >&2; exit 1; }
	done
	stop
	row "full conversation, 8,192 servers" 8192 "2.2 x zgrab2, 10 x nmap, 0.4 x zgrab2's CPU, 80 MB"
fi
if has memory; then
	for _ in $(seq "$runs"); do
		nmaps --min-rate 1000000 -p 25 10.64.0.0/12
		ours 1048576 "${fast[@]}" -p 25 10.64.0.0/12
	done
	row "memory: closed, 1,048,576 x 1" 1048576 "40 MB"
fi

#!/bin/sh
# Looks from several segments at far ends, and judges what the segments let out.
#
#   judge.sh POLICY FAR-END... <SEGMENTS
#
# SEGMENTS has a line a segment: its name, and an address of this machine in it, as a
# probe box on a trunk has them. Where each segment has a machine of its own, run the
# scan there and bring the journals together.
# What is blocked is believed only where the same far end answers on another port, or
# to another segment: take far ends that have several of the ports open.
set -eu
policy=${1:?usage: judge.sh POLICY FAR-END... <SEGMENTS}
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

while read -r name source; do
	smtpsweep scan "$@" -q -p 25,465,587 --vantage "$name" --source "$source" -o "$folder/$name.jsonl" </dev/null >/dev/null || code=$?
	case ${code:-0} in
	0 | 5) ;; # 5: some are undecided, which the policy will say
	*) exit "$code" ;;
	esac
done
smtpsweep report --matrix "$folder"/*.jsonl
echo
# The exit code is 3 if the policy is violated, 5 if a part of it is untested.
smtpsweep report --policy "$policy" "$folder"/*.jsonl --force -o policy.csv -o policy.junit

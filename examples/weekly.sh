#!/bin/sh
# Run from cron once a week: which mail ports of a network are open that were
# not open last time? A file a week; cron mails what is printed, and nothing is
# printed if nothing is new.
set -eu
network=${1:?usage: weekly.sh NETWORK FOLDER}
folder=${2:?usage: weekly.sh NETWORK FOLDER}
name=$folder/mail-ports-$(date +%F-%H%M)

smtpsweep scan "$network" -q -o "$name.jsonl" -o "$name.csv" >/dev/null || code=$?
case ${code:-0} in
0) ;;
5) echo "some endpoints are undecided; again: smtpsweep scan --resume $name.jsonl" ;;
*) echo "smtpsweep ended with exit code $code"; exit "$code" ;;
esac

smtpsweep report "$name.jsonl" -q -f targets | sort >"$name.open"
last=$folder/mail-ports-last.open
[ ! -f "$last" ] || comm -13 "$last" "$name.open" | sed 's/^/open now: /'
cp "$name.open" "$last"

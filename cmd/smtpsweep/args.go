package main

import (
	"fmt"
	"strings"
)

// Words that fingers know from nmap, masscan and swaks. Those with a meaning
// here are read as ours; the others are refused with our word for it, so that
// none is ever taken for a file or a host.
var (
	sameWithValue = map[string]string{
		"-iL": "--input", "--excludefile": "--exclude-file", "--max-rate": "--rate",
		"--max-retries": "--retries", "-S": "--source", "-e": "--source", "--ehlo": "--helo",
	}
	sameAlone = map[string][]string{
		"--open": {"--show", "open"},
		"-Pn":    nil, // no host discovery is made anyway
		"-n":     nil, // no reverse look-ups are made anyway
	}
	refusedWords = map[string]string{
		"-oX": "-o FILE.xml writes nmap's XML",
		"-oN": "-o FILE.txt writes the table",
		"-oG": "-o FILE.csv, or -o FILE.targets for address:port lines",
		"-oA": "-o may be given several times: -o x.csv -o x.xml",
		"-oJ": "-o FILE.json or -o FILE.jsonl",
		"-oL": "-o FILE.targets writes address:port lines",
		"-sS": "--engine chooses; the connect engine needs no privilege and is the default",
		"-sT": "--engine connect is the default",
		"-sV": "--probe full is the default: greeting, EHLO, STARTTLS, certificate",
		"-sU": "mail ports are TCP",
		"-sn": "there is no ping scan; --probe port asks for port states only",
		"-A":  "--probe full is the default",
		"-O":  "operating systems are not guessed",
		"-p-": "-p takes the ports to probe, 25,465,587 by default",

		"-T": "the pace is --rate N (probes per second)",
		"-F": "-p takes the ports to probe, 25,465,587 by default",

		"--min-rate":  "--rate N is the pace, and its limit",
		"--top-ports": "-p takes the ports to probe, 25,465,587 by default",
		"--script":    "--probe full is the default: greeting, EHLO, STARTTLS, certificate",
		"--banners":   "--probe banner reads greetings, --probe full (the default) more",
	}
)

// translateArgs reads other tools' spellings. It looks at words only where a
// flag may stand: not after "--".
func translateArgs(args []string) ([]string, error) {
	var out []string
	source := ""
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			return append(out, args[i:]...), nil
		}
		name, value, inline := strings.Cut(word, "=")
		if ours, ok := sameWithValue[name]; ok {
			if !inline {
				if i+1 == len(args) {
					return nil, fail(exitUsage, "%s needs a value", name)
				}
				i++
				value = args[i]
			}
			if ours == "--source" && source != "" && source != name {
				return nil, withHint(fail(exitUsage, "%s and %s both say where from", source, name), "--source takes one of them, an address or an interface")
			} else if ours == "--source" {
				source = name
			}
			out = append(out, ours, value)
			continue
		}
		if word == "-n" && args[0] == "trace" {
			out = append(out, "--no-names")
			continue
		}
		if ours, ok := sameAlone[word]; ok {
			out = append(out, ours...)
			continue
		}
		if hint := refusal(name); hint != "" {
			return nil, withHint(fail(exitUsage, "%s is another tool's flag", clip(name)), hint)
		}
		out = append(out, word)
	}
	return out, nil
}

// refusal returns our word for a flag of another tool, or "".
func refusal(name string) string {
	if hint, ok := refusedWords[name]; ok {
		return hint
	}
	if len(name) < 3 || name[0] != '-' || name[1] == '-' {
		return ""
	}
	flag, rest := name[:2], name[2:]
	switch {
	case flag == "-T":
		return fmt.Sprintf("the pace is --rate N (probes per second); there is no template %s", clip(name[1:]))
	case flag == "-s":
		return "every scan here is one of TCP connections; --probe port|banner|full says how much is asked"
	case flag == "-P":
		return "no host discovery is made: every target is probed"
	case name == "-iR":
		return "targets are named, never taken at random"
	case flag == "-i" && rest[0] == 'L':
		return fmt.Sprintf("-i %s reads targets from a file (with a space: -iL FILE is understood too)", clip(rest[1:]))
	case flag == "-o" && strings.IndexByte("XNGAJLSDUBRHM", rest[0]) >= 0:
		return fmt.Sprintf("-o %s writes the file %s, its ending picks the format (with a space, since nmap reads -o%c otherwise)", clip(rest), clip(rest), rest[0])
	}
	return ""
}

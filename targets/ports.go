package targets

import (
	"slices"
	"strconv"
	"strings"
)

// portWords are the names of mail ports in a port list (IANA service names;
// "smtps" is what RFC 8314, 7.3 calls submissions).
var portWords = map[string]Port{
	"smtp":        {25, SMTP},
	"smtps":       {465, SMTPS},
	"submissions": {465, SMTPS},
	"submission":  {587, Submission},
}

// DefaultPorts returns the mail ports 25, 465 and 587 with their usual roles.
func DefaultPorts() []Port { return []Port{{25, SMTP}, {465, SMTPS}, {587, Submission}} }

// ParsePorts reads a port list: numbers, ranges ("20-30") and the words smtp,
// smtps and submission, separated by commas; a number or range may carry a role
// ("2525/smtp"). The result is sorted, each port once. A role that is written
// beats the usual one. Errors are *SpecError.
func ParsePorts(s string) ([]Port, error) {
	roles := map[uint16]Role{}
	written := map[uint16]bool{}
	if strings.TrimSpace(s) == "" {
		return nil, &SpecError{What: "ports", Reason: "empty", Hint: "write 25,465,587"}
	}
	for i, item := range strings.Split(s, ",") {
		first, last, role, err := parsePortItem(strings.TrimSpace(item))
		if err != nil {
			err.Spec = s
			if strings.Contains(s, ",") {
				err.Reason = "item " + strconv.Itoa(i+1) + ": " + err.Reason
			}
			return nil, err
		}
		for n := int(first); n <= int(last); n++ {
			port := uint16(n)
			if role == nil {
				if !written[port] {
					roles[port] = RoleOf(port)
				}
				continue
			}
			if written[port] && roles[port] != *role {
				return nil, &SpecError{What: "ports", Spec: s, Reason: "port " + strconv.Itoa(n) + " has two roles, " +
					roles[port].String() + " and " + role.String(), Hint: "keep one of them"}
			}
			roles[port], written[port] = *role, true
		}
	}
	return sortedPorts(roles), nil
}

func sortedPorts(roles map[uint16]Role) []Port {
	ports := make([]Port, 0, len(roles))
	for n, r := range roles {
		ports = append(ports, Port{n, r})
	}
	slices.SortFunc(ports, func(a, b Port) int { return int(a.Number) - int(b.Number) })
	return ports
}

// parsePortItem reads one item; role is nil if none is written.
func parsePortItem(item string) (first, last uint16, role *Role, err *SpecError) {
	number, word, hasRole := strings.Cut(item, "/")
	if p, ok := portWords[strings.ToLower(number)]; ok && !hasRole {
		return p.Number, p.Number, nil, nil
	}
	if hasRole {
		r, ok := parseRole(word)
		if !ok {
			return 0, 0, nil, portError("unknown role "+quote(word), "roles are smtp, smtps and submission: 2525/smtp")
		}
		role = &r
	}
	from, to, isRange := strings.Cut(number, "-")
	if first, err = parsePortNumber(from, item); err != nil {
		return 0, 0, nil, err
	}
	if !isRange {
		return first, first, role, nil
	}
	if last, err = parsePortNumber(to, item); err != nil {
		return 0, 0, nil, err
	}
	if last < first {
		return 0, 0, nil, portError("range "+quote(number)+" runs backwards", "write "+to+"-"+from)
	}
	return first, last, role, nil
}

func parseRole(word string) (Role, bool) {
	switch strings.ToLower(word) {
	case "smtp":
		return SMTP, true
	case "smtps", "submissions":
		return SMTPS, true
	case "submission":
		return Submission, true
	}
	return 0, false
}

func parsePortNumber(s, item string) (uint16, *SpecError) {
	n, err := strconv.ParseUint(s, 10, 16)
	switch {
	case item == "":
		return 0, portError("empty", "take out the spare comma")
	case s == "":
		return 0, portError("a port is missing in "+quote(item), "write 25 or 20-30")
	case !allDigits(s):
		return 0, portError("unknown port "+quote(s), "ports are numbers, ranges, smtp, smtps and submission")
	case err != nil || n == 0:
		return 0, portError("port "+quote(s)+" is not between 1 and 65535", "")
	}
	return uint16(n), nil
}

func portError(reason, hint string) *SpecError {
	return &SpecError{What: "ports", Reason: reason, Hint: hint}
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// PortsText writes a sorted port list as ParsePorts reads it, ranges folded,
// usual roles left out. Equal lists have equal texts.
func PortsText(ports []Port) string {
	var b strings.Builder
	for i := 0; i < len(ports); {
		j := i + 1
		usual := ports[i].Role == RoleOf(ports[i].Number)
		for j < len(ports) && ports[j].Number == ports[j-1].Number+1 && ports[j].Role == ports[i].Role &&
			(ports[j].Role == RoleOf(ports[j].Number)) == usual {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(ports[i].Number)))
		if j > i+1 {
			b.WriteString("-" + strconv.Itoa(int(ports[j-1].Number)))
		}
		if !usual {
			b.WriteString("/" + ports[i].Role.String())
		}
		i = j
	}
	return b.String()
}

// A portTable keeps each different port list once; lists are named by number.
type portTable struct {
	lists  [][]Port
	byText map[string]uint32
	unions map[[2]uint32]uint32
}

func (t *portTable) intern(ports []Port) uint32 {
	text := PortsText(ports)
	if id, ok := t.byText[text]; ok {
		return id
	}
	if t.byText == nil {
		t.byText = map[string]uint32{}
		t.unions = map[[2]uint32]uint32{}
	}
	id := uint32(len(t.lists))
	t.lists = append(t.lists, ports)
	t.byText[text] = id
	return id
}

// union returns the list with the ports of both. A port with two roles is a
// *SpecError, without its target.
func (t *portTable) union(a, b uint32) (uint32, error) {
	if a == b {
		return a, nil
	}
	if id, ok := t.unions[[2]uint32{a, b}]; ok {
		return id, nil
	}
	roles := map[uint16]Role{}
	for _, p := range t.lists[a] {
		roles[p.Number] = p.Role
	}
	for _, p := range t.lists[b] {
		if r, ok := roles[p.Number]; ok && r != p.Role {
			return 0, &SpecError{What: "target", Reason: "port " + strconv.Itoa(int(p.Number)) + " is asked for in two roles, " +
				r.String() + " and " + p.Role.String(), Hint: "keep one of them"}
		}
		roles[p.Number] = p.Role
	}
	id := t.intern(sortedPorts(roles))
	t.unions[[2]uint32{a, b}] = id
	return id, nil
}

package targets

import (
	"bytes"
	"errors"
	"hash/maphash"
	"math"
	"strings"

	"golang.org/x/net/idna"
)

// A Name is a target that is looked up: a host, or a domain whose MX hosts are meant.
type Name struct {
	Text     string // identity: "mail.example.org" or "mx:example.org", absolute, lower case, punycode, without the last dot
	Spec     string // as the user wrote it first
	Ports    []Port // never empty
	FromFile bool   // it stood in a list and was not typed
}

// isMX reports whether the MX hosts of a domain are meant, and returns the
// domain, or the host.
func (n Name) isMX() (host string, mx bool) { return strings.CutPrefix(n.Text, "mx:") }

// profile maps and converts names as browsers do (UTS 46, non-transitional).
// Underscores are let through: the DNS allows them, and hosts have them.
var profile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
	idna.StrictDomainName(false), idna.CheckHyphens(false))

// hostName returns the name in the form that identifies it. What is not a
// name comes back as it is, in lower case: checkName will say why.
func hostName(s string) string {
	s = strings.ToLower(s)
	if !isASCII(s) {
		a, err := profile.ToASCII(s)
		if err != nil {
			return s
		}
		s = a
	}
	if t := strings.TrimSuffix(s, "."); t != "" {
		return t
	}
	return s
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// checkName says why s, as hostName returns it, is not the name of a host
// (RFC 1035, 2.3.1 and 2.3.4; RFC 1123, 2.1; underscores are tolerated).
func checkName(s string) error {
	if len(s) > 253 {
		return errors.New("the name has more than 253 characters (RFC 1035, 2.3.4)")
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "":
			return errors.New("a part of the name between two dots is empty")
		case len(label) > 63:
			return errors.New("a part of the name has more than 63 characters (RFC 1035, 2.3.4)")
		case label[0] == '-' || label[len(label)-1] == '-':
			return errors.New("a part of the name begins or ends with a hyphen (RFC 1123, 2.1)")
		case strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
			return errors.New("the name contains a character that no host name has")
		}
		for i := range len(label) {
			if !nameByte(label[i]) {
				return errors.New("the name contains a character that no host name has")
			}
		}
		if strings.HasPrefix(label, "xn--") {
			if _, err := profile.ToUnicode(label); err != nil {
				return errors.New("the name is not valid punycode (RFC 5891)")
			}
		}
	}
	return nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// A nameTable keeps the distinct names in the order they came, in 12 bytes each
// and their text. The index that finds doubles is dropped when a plan is built.
type nameTable struct {
	text  []byte // for each name its identity, and the spec if it differs
	recs  []nameRec
	slots []uint32 // open addressing: number of a name + 1, 0 is free
	seed  maphash.Seed
}

type nameRec struct {
	offset uint32
	ports  uint32 // list in the portTable
	id     uint16 // length of the identity
	spec   uint16 // length of the spec; 0 if it is the same; the top bit says FromFile
}

const fromFile = 1 << 15

func (t *nameTable) len() int { return len(t.recs) }

// id returns the identity of name i, as bytes of the table.
func (t *nameTable) id(i int) []byte {
	r := t.recs[i]
	return t.text[r.offset : r.offset+uint32(r.id)]
}

func (t *nameTable) at(i int, ports *portTable) Name {
	r := t.recs[i]
	n := Name{Text: string(t.id(i)), Ports: ports.lists[r.ports], FromFile: r.spec&fromFile != 0}
	n.Spec = n.Text
	if l := uint32(r.spec &^ fromFile); l > 0 {
		n.Spec = string(t.text[r.offset+uint32(r.id):][:l])
	}
	return n
}

// add adds a name, or merges it with the one that is there: ports are united,
// and a name that was also typed counts as typed.
func (t *nameTable) add(id, spec string, list uint32, file bool, ports *portTable) error {
	slot := t.find(id)
	if n := t.slots[slot]; n != 0 {
		r := &t.recs[n-1]
		union, err := ports.union(r.ports, list)
		if err != nil {
			return err
		}
		r.ports = union
		if !file {
			r.spec &^= fromFile
		}
		return nil
	}
	if uint64(len(t.text)+len(id)+len(spec)) > math.MaxUint32 {
		return &RefusedError{Spec: spec, Reason: "the names have more than 4 GiB of text", Hint: "sweep in several runs"}
	}
	r := nameRec{offset: uint32(len(t.text)), ports: list, id: uint16(len(id))}
	t.text = append(t.text, id...)
	if spec != id {
		r.spec = uint16(len(spec))
		t.text = append(t.text, spec...)
	}
	if file {
		r.spec |= fromFile
	}
	t.recs = append(t.recs, r)
	t.slots[slot] = uint32(len(t.recs))
	return nil
}

// find returns the slot that holds the name, or the free one where it belongs.
func (t *nameTable) find(id string) int {
	if len(t.recs)*4 >= len(t.slots)*3 {
		t.grow()
	}
	mask := len(t.slots) - 1
	key := []byte(id)
	for i := int(maphash.Bytes(t.seed, key)) & mask; ; i = (i + 1) & mask {
		if n := t.slots[i]; n == 0 || bytes.Equal(t.id(int(n-1)), key) {
			return i
		}
	}
}

func (t *nameTable) grow() {
	if t.slots == nil {
		t.seed = maphash.MakeSeed()
	}
	t.slots = make([]uint32, max(16, 2*len(t.slots)))
	mask := len(t.slots) - 1
	for n := range t.recs {
		i := int(maphash.Bytes(t.seed, t.id(n))) & mask
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = uint32(n + 1)
	}
}

package scannertest

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A Behaviour is a way to be a mail server, or to be something else on a mail port.
type Behaviour struct {
	Name string       // short, lower case: "expired-certificate"
	Help string       // one plain sentence for a user
	Role targets.Role // how it expects to be spoken to
	Want Want         // the truth about it
	Good bool         // nothing is wrong with it, and nothing is odd
	Rare bool         // hardly met outside of a laboratory
	// Serve talks to one client. It returns when the conversation is over, and
	// when conn is closed under it; the zoo closes conn afterwards.
	Serve func(conn net.Conn, z *Zoo)
}

// A Want is the truth about a server, as a full conversation finds it out.
// The state of the port is always open.
type Want struct {
	Service  scanner.Kind
	Code     int              // of the first reply; 0 if there is none
	Software string           // what the name of the software begins with; "" if it does not say
	StartTLS scanner.StartTLS // "" if it does not come to that
	Version  uint16           // of TLS, crypto/tls's number; 0 if no handshake succeeds
	Trust    scanner.Trust    // judged by Zoo.Roots; "" if no certificate is seen
	Size     uint64           // the SIZE limit; 0 if none is announced
	Findings []string         // codes of what is wrong
	Named    []string         // codes of what is wrong besides, if the server was asked for by the name Host
	Error    string           // is in what is said to have gone wrong; "" if nothing in particular
	AsHost   *Want            // the truth instead, if the server was asked for by the name Host and behaves otherwise then
}

// Diff says, a sentence each, in what a result differs from the truth. named
// says that the server was asked for by the name Host, not by its address.
func (w Want) Diff(r scanner.Result, named bool) []string {
	if named && w.AsHost != nil {
		return w.AsHost.Diff(r, true)
	}
	var diff []string
	differ := func(what string, got, want any) {
		if got != want {
			diff = append(diff, fmt.Sprintf("%s is %v, want %v", what, got, want))
		}
	}
	differ("state", r.State, scanner.Open)
	if r.Service == nil {
		if w.Service != scanner.KindMute || r.Mute == 0 {
			diff = append(diff, fmt.Sprintf("service was not looked at, want %s", w.Service))
		}
		return diff
	}
	s := r.Service
	differ("service", s.Kind, w.Service)
	differ("code", s.Code, w.Code)
	differ("STARTTLS", s.StartTLS, w.StartTLS)
	differ("SIZE", s.Size, w.Size)
	if w.Software != "" && !strings.HasPrefix(s.Software, w.Software) {
		differ("software", s.Software, w.Software)
	}
	var version uint16
	var trust scanner.Trust
	if s.TLS != nil {
		version, trust = s.TLS.Version, s.TLS.Trust
	}
	differ("certificate", trust, w.Trust)
	if w.Version != 0 {
		differ("TLS", tls.VersionName(version), tls.VersionName(w.Version))
	}
	want := slices.Clone(w.Findings)
	if named {
		want = append(want, w.Named...)
	}
	differ("findings", sorted(s.Findings), sorted(want))
	if !strings.Contains(s.Err, w.Error) {
		differ("error", fmt.Sprintf("%q", s.Err), fmt.Sprintf("%q", w.Error))
	}
	return diff
}

// sorted returns the words in order, in one string.
func sorted(words []string) string {
	words = slices.Clone(words)
	slices.Sort(words)
	return strings.Join(words, ";")
}

// slowGreeting is the pause from which on a greeting is found to be slow.
const slowGreeting = 5 * time.Second

// Want returns the truth about a behaviour in this zoo, where the greet pause
// may be too short to be a finding.
func (z *Zoo) Want(b Behaviour) Want {
	w := b.Want
	if z.cfg.GreetPause <= slowGreeting {
		w.Findings = slices.DeleteFunc(slices.Clone(w.Findings), func(f string) bool { return f == "greeting-pause" })
	}
	return w
}

// Behaviours returns all behaviours: the good servers first, then those that
// refuse or are slow, those whose encryption is wrong, those that break the
// protocol, and those that are not mail servers.
func Behaviours() []Behaviour {
	return slices.Concat(good(), unwilling(), encryption(), rare(protocol()), certificates(), malformed(), rare(greetings()), rare(replies()), hostile(), others())
}

// rare says of behaviours that they are rare.
func rare(all []Behaviour) []Behaviour {
	for i := range all {
		all[i].Rare = true
	}
	return all
}

// Find returns the behaviour of that name. The zero Behaviour, which closes
// every connection, is returned if there is none.
func Find(name string) (b Behaviour, ok bool) {
	all := Behaviours()
	i := slices.IndexFunc(all, func(b Behaviour) bool { return b.Name == name })
	if i < 0 {
		return Behaviour{}, false
	}
	return all[i], true
}

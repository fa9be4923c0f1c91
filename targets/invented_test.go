package targets

import (
	"context"
	"strings"
	"testing"
)

// lyingServer is a provider's DNS server that leads names that do not exist to a
// page of its own.
func lyingServer(t *testing.T) *nameServer {
	s := newNameServer(t, map[string]string{
		"mail.example.org. A":    "mail.example.org. 60 IN A 203.0.113.25",
		"mail.example.org. AAAA": "-",
		"both.example.org. A":    "both.example.org. 60 IN A 203.0.113.25\nboth.example.org. 60 IN A 198.51.100.80",
		"both.example.org. AAAA": "-",
		"example.org. MX":        "example.org. 60 IN MX 10 gone.example.org.\nexample.org. 60 IN MX 20 mail.example.org.",
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invents = "198.51.100.80"
	return s
}

func TestInventedAddressesAreNotBelieved(t *testing.T) {
	s := lyingServer(t)
	r := s.resolver(t)
	for name, want := range map[string]string{
		"mail.example.org": "mail.example.org 203.0.113.25",
		"both.example.org": "both.example.org 203.0.113.25 198.51.100.80",
		"gone.example.org": "dns-error",
		"mx:example.org":   "gone.example.org (dns-error), mail.example.org 203.0.113.25",
		"mx:gone.example":  "dns-error",
	} {
		a := r.Resolve(context.Background(), Name{Text: name})
		if got := show(a); got != want {
			t.Errorf("%s: %s (%s), want %s", name, got, a.Err, want)
		}
		if strings.Contains(want, "dns-error") && !strings.Contains(a.Err+a.hostErrs(), "198.51.100.80 for names that do not exist") {
			t.Errorf("%s: the error %q does not say what is wrong", name, a.Err+a.hostErrs())
		}
	}
	if got := r.Invented(); len(got) != 1 || got[0].String() != "198.51.100.80" {
		t.Errorf("invented: %v", got)
	}
}

func (a *Answer) hostErrs() (all string) {
	for _, h := range a.Hosts {
		all += h.Err
	}
	return all
}

// An honest server is asked once, and only if a name has an address.
func TestHonestServersAreAskedOneQuestionMore(t *testing.T) {
	s := newNameServer(t, map[string]string{
		"mail.example.org. A":    "mail.example.org. 60 IN A 203.0.113.25",
		"mail.example.org. AAAA": "-",
	})
	r := s.resolver(t)
	for _, name := range []string{"gone.example.org", "mail.example.org", "mail.example.org"} {
		r.Resolve(context.Background(), Name{Text: name})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for question, count := range s.asked {
		if strings.HasSuffix(question, ".example.com. A") || strings.HasSuffix(question, ".example.com. AAAA") {
			n += count
		}
	}
	if n != 1 {
		t.Errorf("%d questions for a name that nobody has, want 1: %v", n, s.asked)
	}
	if got := r.Invented(); len(got) != 0 {
		t.Errorf("invented: %v", got)
	}
}

// What a stopped run did not learn is not taken for an answer.
func TestAStoppedControlIsAskedAgain(t *testing.T) {
	s := lyingServer(t)
	r := s.resolver(t)
	stopped, stop := context.WithCancel(context.Background())
	stop()
	r.control(stopped)
	if got := show(r.Resolve(context.Background(), Name{Text: "gone.example.org"})); got != "dns-error" {
		t.Errorf("%s, want dns-error", got)
	}
}

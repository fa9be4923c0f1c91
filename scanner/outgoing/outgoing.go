// Package outgoing counts the packets that this machine has sent (Linux). A reset
// that a firewall of this machine sends to itself shows there: it passes the
// loopback interface, and nothing leaves by any other.
package outgoing

// A Count is how many packets this machine has sent.
type Count struct {
	All      int // IP packets that got past the firewall, by whatever interface; -1: not known
	Loopback int // by the loopback interface; -1: not known
}

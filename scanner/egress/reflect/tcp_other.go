//go:build !linux

package reflect

import (
	"net"
	"syscall"
	"time"
)

// Other systems than Linux keep no SYN, and are not asked for round trips; a SYN
// of theirs is not marked. What rests on it (NAT and a proxy told apart) is not concluded there.

func listenControl(_, _ string, _ syscall.RawConn) error { return nil }

func synOf(net.Conn) *SYN { return nil }

func rttOf(net.Conn) time.Duration { return 0 }

func newMark() mark { return mark{} }

func (mark) set(string, syscall.RawConn, int) error { return nil }

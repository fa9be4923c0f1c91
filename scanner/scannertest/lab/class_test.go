package lab

import (
	"net/netip"
	"testing"
)

func TestTruthIsAFunctionOfTheAddress(t *testing.T) {
	onLink := []netip.Addr{netip.MustParseAddr("10.30.0.10")}
	classes := Config{Classes: true, Serve: true, OnLink: onLink}.withDefaults()
	atRouter := Config{Classes: true, RejectAt: Router}.withDefaults()
	bare := Config{}.withDefaults()
	icmp := func(class Class, reason, from string, typ, code uint8) Expect {
		return Expect{Class: class, State: "filtered", Reason: reason, From: netip.MustParseAddr(from), ICMPType: typ, ICMPCode: code}
	}
	open := func(class Class, greeting string) Expect {
		return Expect{Class: class, State: "open", Reason: "syn-ack", Greeting: greeting}
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		addr string
		port uint16
		want Expect
	}{
		{"accept", classes, "10.64.0.8", 25, open(Accept, Greeting)},
		{"reset", classes, "10.64.0.9", 25, Expect{Class: Reset, State: "closed", Reason: "conn-refused"}},
		{"drop", classes, "fd64::a", 465, Expect{Class: Drop, State: "filtered", Reason: "no-response"}},
		{"by the target itself", classes, "10.64.0.3", 25, icmp(AdminProhibited, "admin-prohibited", "10.64.0.3", 3, 13)},
		{"by the target's own address", classes, "fd64::4", 25, icmp(HostUnreach, "host-unreach", "fd20:10::2", 1, 3)},
		{"by the router", atRouter, "10.64.0.5", 587, icmp(PortUnreach, "port-unreach", "10.20.9.1", 3, 3)},
		{"by the router, IPv6", atRouter, "fd64::5", 587, icmp(PortUnreach, "port-unreach", "fd20:9::1", 1, 4)},
		{"redirected", classes, "10.64.0.6", 25, open(Redirect, ProxyGreeting)},
		{"IPv4 written as IPv6", classes, "::ffff:10.64.0.7", 25, open(AcceptToo, Greeting)},
		{"another port", classes, "10.64.0.3", 80, Expect{State: "closed", Reason: "conn-refused"}},
		{"no classes", bare, "10.64.0.3", 25, open(Accept, "")},
		{"on-link host", classes, "10.30.0.10", 25, open(Accept, Greeting)},
		{"on-link nobody", classes, "10.30.0.11", 25, icmp(Accept, "no-neighbor", "10.30.0.7", 3, 1)},
		{"no route", bare, "192.0.2.1", 25, icmp(Accept, "net-unreach", "10.20.9.1", 3, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.cfg.truth(netip.MustParseAddr(tt.addr), tt.port); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

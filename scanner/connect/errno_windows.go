package connect

import "syscall"

// winsock holds the numbers that Windows has for the errors we know; package
// syscall's ECONNREFUSED and the others never occur there.
var winsock = map[syscall.Errno]syscall.Errno{
	10013: syscall.EACCES,
	10022: syscall.EINVAL,
	10024: syscall.EMFILE,
	10035: syscall.EAGAIN,
	10047: syscall.EAFNOSUPPORT,
	10049: syscall.EADDRNOTAVAIL,
	10050: syscall.ENETDOWN,
	10051: syscall.ENETUNREACH,
	10053: syscall.ECONNRESET, // aborted
	10054: syscall.ECONNRESET,
	10055: syscall.ENOBUFS,
	10060: syscall.ETIMEDOUT,
	10061: syscall.ECONNREFUSED,
	10065: syscall.EHOSTUNREACH,
}

// portableErrno returns the errno that the rest of the package knows.
func portableErrno(errno syscall.Errno) syscall.Errno {
	if e, ok := winsock[errno]; ok {
		return e
	}
	return errno
}

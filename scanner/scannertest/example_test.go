package scannertest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
)

// A server that rejects its clients, and a client that has no manners.
func Example() {
	zoo, err := scannertest.Start(context.Background(), scannertest.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	rejecting, _ := scannertest.Find("client-rejected")
	addr, err := zoo.Listen("127.0.0.1:0", rejecting)
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	greeting, _ := bufio.NewReader(conn).ReadString('\n')
	fmt.Println(strings.TrimSpace(greeting))
	fmt.Fprint(conn, "MAIL FROM:<a@example.org>\r\nQUIT\r\n")
	bufio.NewReader(conn).ReadString('\n')
	conn.Close()
	zoo.Close()
	fmt.Println("wanted:", rejecting.Want.Service, "- breaches of etiquette:", zoo.Counts().Rude())
	// Output:
	// 554 5.7.1 <unknown[127.0.0.1]>: Client host rejected: Access denied
	// wanted: refusing - breaches of etiquette: 2
}

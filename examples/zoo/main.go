// Command zoo runs one kind of mail server on any addresses, to try a scanner
// against. Run it in a network of your own.
//
//	go run ./examples/zoo -list
//	go run ./examples/zoo -is good -listen 127.0.0.1:2525
//	go run ./examples/zoo -ca ca.pem good=10.0.0.1:25 expired=10.0.0.2:25 mute=10.0.0.3:25
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
)

func main() {
	list := flag.Bool("list", false, "list what there is")
	name := flag.String("is", "good", "what kind of server -listen starts")
	listen := flag.String("listen", "", "addresses for it, separated by commas (127.0.0.1:2525 if nothing else is asked for)")
	ca := flag.String("ca", "", "write the authority of the good certificates to this file, as PEM")
	flag.Parse()
	if *list {
		for _, b := range scannertest.Behaviours() {
			fmt.Printf("%-22s %s\n", b.Name, b.Help)
		}
		return
	}
	servers := flag.Args()
	if *listen == "" && len(servers) == 0 {
		*listen = "127.0.0.1:2525"
	}
	for addr := range strings.SplitSeq(*listen, ",") {
		if addr != "" {
			servers = append(servers, *name+"="+addr)
		}
	}
	if err := serve(servers, *ca); err != nil {
		fmt.Fprintln(os.Stderr, "zoo:", err)
		os.Exit(1)
	}
}

// serve runs servers, NAME=ADDRESS each, until it is interrupted.
func serve(servers []string, ca string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	zoo, err := scannertest.Start(ctx, scannertest.Config{})
	if err != nil {
		return err
	}
	defer zoo.Close()
	if ca != "" {
		if err := os.WriteFile(ca, zoo.CA(), 0o644); err != nil {
			return err
		}
	}
	for _, server := range servers {
		name, addr, _ := strings.Cut(server, "=")
		b, ok := scannertest.Find(name)
		if !ok {
			return fmt.Errorf("no server is called %q; -list lists them", name)
		}
		at, err := zoo.Listen(addr, b)
		if err != nil {
			return err
		}
		fmt.Println(name, "listens on", at)
	}
	<-ctx.Done()
	return nil
}

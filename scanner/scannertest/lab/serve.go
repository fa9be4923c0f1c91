package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// answer is the built-in server: PORT=GREETING... on every address.
func answer(ctx context.Context, args []string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, arg := range args {
		port, greeting, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not PORT=GREETING", arg)
		}
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+port)
		if err != nil {
			return err
		}
		wg.Go(func() {
			<-ctx.Done()
			ln.Close()
		})
		wg.Go(func() { accept(ctx, ln, greeting, &wg) })
	}
	Ready()
	<-ctx.Done()
	return nil
}

func accept(ctx context.Context, ln net.Listener, greeting string, wg *sync.WaitGroup) {
	for {
		conn, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors: others will be closed soon
			time.Sleep(5 * time.Millisecond)
		default:
			wg.Go(func() {
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				defer stop()
				defer conn.Close()
				converse(conn, greeting)
			})
		}
	}
}

// converse speaks the little SMTP that a scanner needs: at most 100 commands of
// 512 bytes in two minutes (RFC 5321, 4.5.3.1.4).
func converse(conn net.Conn, greeting string) {
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(conn, greeting+"\r\n"); err != nil {
		return
	}
	in := bufio.NewReaderSize(conn, 512)
	for range 100 {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		reply := "502 5.5.1 Command not implemented"
		switch strings.ToUpper(verb) {
		case "EHLO":
			reply = "250-" + strings.Fields(greeting)[1] + "\r\n250-SIZE 10485760\r\n250 HELP"
		case "HELO", "NOOP":
			reply = "250 OK"
		case "QUIT":
			io.WriteString(conn, "221 Bye\r\n")
			return
		}
		if _, err := io.WriteString(conn, reply+"\r\n"); err != nil {
			return
		}
	}
}

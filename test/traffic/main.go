// Command traffic is what tests put at the far end of a forward: a TCP server on
// 127.0.0.1 that swallows, sends or returns what each connection asks for.
//
// The first byte of a connection says which: 'S' swallows everything until its end
// and answers with the number of bytes as 8 bytes, big-endian; 'P' is followed by 8
// bytes, big-endian, and sends that many; 'E' returns each byte as it comes; 'N'
// never reads again; 'G' is the beginning of an HTTP request and is answered with a
// page of 64 KiB.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: traffic PORT")
		os.Exit(2)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:"+os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go serve(c.(*net.TCPConn))
	}
}

func serve(c *net.TCPConn) {
	defer func() { _ = c.Close() }()
	var what [1]byte
	if _, err := io.ReadFull(c, what[:]); err != nil {
		return
	}
	number := make([]byte, 8)
	switch what[0] {
	case 'S':
		n, err := io.CopyBuffer(onlyWrites{io.Discard}, onlyReads{c}, make([]byte, 256<<10))
		if err != nil {
			return
		}
		binary.BigEndian.PutUint64(number, uint64(n))
		_, _ = c.Write(number)
	case 'P':
		if _, err := io.ReadFull(c, number); err != nil {
			return
		}
		_, _ = io.CopyBuffer(onlyWrites{c}, io.LimitReader(zeros{}, int64(binary.BigEndian.Uint64(number))), make([]byte, 256<<10))
	case 'E':
		_, _ = io.CopyBuffer(onlyWrites{c}, onlyReads{c}, make([]byte, 64<<10))
	case 'N':
		select {}
	case 'G':
		request := bufio.NewReader(c)
		for line := "G"; strings.TrimSpace(line) != ""; {
			var err error
			if line, err = request.ReadString('\n'); err != nil {
				return
			}
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", page)
		_, _ = io.CopyN(onlyWrites{c}, zeros{}, page)
	}
}

// page is how large a page is.
const page = 64 << 10

// onlyReads and onlyWrites hide shortcuts between two kinds of connection, so that
// the same is measured whatever they are.
type onlyReads struct{ io.Reader }
type onlyWrites struct{ io.Writer }

// zeros is a reader of as many as wanted.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

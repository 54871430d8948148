// Command gai prints the addresses Go's own resolver finds, a name a line.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

func main() {
	for _, name := range os.Args[1:] {
		fmt.Print(name)
		addrs, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip", name)
		failed, ok := errors.AsType[*net.DNSError](err)
		switch {
		case ok && failed.IsNotFound:
			fmt.Print(" error no such name")
		case err != nil:
			fmt.Print(" error ", err)
		}

		for _, a := range addrs {
			fmt.Print(" ", a.Unmap())
		}

		fmt.Println()
	}
}

// Command gzip writes standard input to standard output as the layer writers in Go do, at their
// default levels: `gzip go` as Docker and BuildKit, `gzip pgzip` as podman, buildah and skopeo.
package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/pgzip"
)

func main() {
	var writer io.WriteCloser
	switch {
	case len(os.Args) == 2 && os.Args[1] == "go":
		writer = gzip.NewWriter(os.Stdout)
	case len(os.Args) == 2 && os.Args[1] == "pgzip":
		writer = pgzip.NewWriter(os.Stdout)
	default:
		fmt.Fprintln(os.Stderr, "usage: gzip go|pgzip")
		os.Exit(2)
	}
	_, err := io.Copy(writer, os.Stdin)
	if err == nil {
		err = writer.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gzip:", err)
		os.Exit(1)
	}
}

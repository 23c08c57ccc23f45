// Serves go-containerregistry's registry with its referrers API on, which crane's own `registry
// serve` leaves off. Test support: kharon is tried against a referrers API that is not its own.
//
// Usage: referrers-registry ADDRESS FOLDER. Blobs go to FOLDER, manifests stay in memory.
package main

import (
	"log"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: referrers-registry ADDRESS FOLDER")
	}
	server := &http.Server{
		Addr:              os.Args[1],
		ReadHeaderTimeout: 10 * time.Second,
		Handler: registry.New(
			registry.WithReferrersSupport(true),
			registry.WithBlobHandler(registry.NewDiskBlobHandler(os.Args[2])),
		),
	}
	log.Fatal(server.ListenAndServe())
}
